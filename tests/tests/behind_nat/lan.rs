//! A public network with places for the index and a hospital that everybody can dial, and two hospitals' networks behind translators of their own: network
//! namespaces, joined by pairs of virtual cables, translated by nftables. Both hospitals have the same private address.
//!
//! All of it lies in a network, mount and process namespace that the test has made for itself, so nothing of the
//! machine's own network is touched, and all of it is gone when the test ends, however it does.

use std::env;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Says to this program that it runs within.
const INSIDE: &str = "HANDOVER_TEST_INSIDE_NAMESPACES";
/// The index's address; the translators' ones.
pub(crate) const INDEX: &str = "203.0.113.10";
/// The address of a hospital that everybody can dial.
pub(crate) const NEIGHBOUR: &str = "203.0.113.30";
const TRANSLATORS: [(&str, &str); 2] = [("one", "203.0.113.21"), ("two", "203.0.113.22")];
/// The address of a hospital's machine, in its own network.
pub(crate) const HOSPITAL: &str = "10.0.0.2";

/// Runs the test of this name once more, within namespaces; false if this is that run already.
pub(crate) fn enters(test: &str) -> Result<bool> {
    if env::var_os(INSIDE).is_some() {
        return Ok(false);
    }
    for program in ["ip", "nft", "unshare", "nsenter", "bash"] {
        let found = Command::new(program).arg("--version").output();
        ensure!(found.is_ok(), "{program} is missing: tests/run installs iproute2, nftables and util-linux");
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    let is_root = Command::new("id").arg("-u").output()?.stdout == b"0\n";
    if !is_root {
        command.args(["--user", "--map-root-user"]);
    }
    let probe = Command::new("unshare")
        .args(command.get_args())
        .args(["sh", "-ec", "mount -t tmpfs tmpfs /run; ip link add probe type bridge"])
        .output()?;
    ensure!(
        probe.status.success(),
        "networks cannot be made here ({}); it takes root with CAP_SYS_ADMIN and CAP_NET_ADMIN (a container: --cap-add \
         SYS_ADMIN --cap-add NET_ADMIN), or users who may make namespaces",
        String::from_utf8_lossy(&probe.stderr).trim()
    );
    command.arg(env::current_exe()?).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let status = command.status().context("unshare cannot be run")?;
    ensure!(status.success(), "the scene within namespaces failed; it said why above");
    Ok(true)
}

/// The words that put a command into a namespace.
pub(crate) fn within(name: &str) -> Vec<String> {
    vec!["nsenter".to_owned(), format!("--net=/run/netns/{name}"), "--".to_owned()]
}

fn run(script: &str) -> Result<String> {
    let output = Command::new("sh").args(["-ec", script]).output()?;
    if !output.status.success() {
        bail!("{script}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Lays the cables.
pub(crate) fn lay() -> Result<()> {
    // Named namespaces are files below /run: this one is nobody else's.
    run("mount -t tmpfs tmpfs /run
         ip link set lo up
         ip link add wan type bridge
         ip link set wan up")?;
    for (name, address) in [("index", INDEX), ("neighbour", NEIGHBOUR)] {
        run(&format!(
            "ip netns add {name}
             ip link add to-{name} type veth peer name wan0 netns {name}
             ip link set to-{name} master wan up
             ip -n {name} link set lo up
             ip -n {name} addr add {address}/24 dev wan0
             ip -n {name} link set wan0 up"
        ))?;
    }
    for (name, address) in TRANSLATORS {
        run(&format!(
            "ip netns add nat-{name}
             ip netns add {name}
             ip link add to-{name} type veth peer name wan0 netns nat-{name}
             ip link set to-{name} master wan up
             ip -n nat-{name} link add lan0 type veth peer name eth0 netns {name}
             ip -n nat-{name} addr add {address}/24 dev wan0
             ip -n nat-{name} addr add 10.0.0.1/24 dev lan0
             ip -n nat-{name} link set wan0 up
             ip -n nat-{name} link set lan0 up
             ip -n {name} addr add {HOSPITAL}/24 dev eth0
             ip -n {name} link set lo up
             ip -n {name} link set eth0 up
             ip -n {name} route add default via 10.0.0.1
             nsenter --net=/run/netns/nat-{name} -- sh -ec 'echo 1 >/proc/sys/net/ipv4/ip_forward; nft -f -' <<END
             table ip translation {{
                 chain out {{
                     type nat hook postrouting priority srcnat;
                     oifname wan0 masquerade
                 }}
                 chain through {{
                     type filter hook forward priority filter; policy drop;
                     iifname lan0 accept
                     ct state established,related accept
                 }}
                 chain to-itself {{
                     type filter hook input priority filter; policy drop;
                     iifname lan0 accept
                     ct state established,related accept
                 }}
                 chain others {{
                     type filter hook prerouting priority -300;
                     iifname wan0 ip saddr != {INDEX} meta l4proto {{ tcp, udp }} counter
                 }}
             }}
END"
        ))?;
    }
    Ok(())
}

/// How many packets of TCP and UDP have reached a hospital's translator that were not the index's.
pub(crate) fn packets_of_others(name: &str) -> Result<u64> {
    let rules = run(&format!("nsenter --net=/run/netns/nat-{name} -- nft list chain ip translation others"))?;
    let count = rules.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next());
    count.and_then(|count| count.parse().ok()).with_context(|| format!("no counter in {rules}"))
}

/// How many bytes have reached a machine that everybody can dial: the `index`'s or the `neighbour`'s.
pub(crate) fn bytes_to(name: &str) -> Result<u64> {
    let table = run(&format!("nsenter --net=/run/netns/{name} -- cat /proc/net/dev"))?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix("wan0:"));
    let received = line.and_then(|line| line.split_whitespace().next());
    received.and_then(|count| count.parse().ok()).with_context(|| format!("no counter in {table}"))
}

/// Whether a hospital's machine can connect to a port of the other one's translator.
pub(crate) fn can_dial(from: &str, port: u16) -> Result<bool> {
    let (_, to) = TRANSLATORS.into_iter().find(|(name, _)| *name != from).context("no other")?;
    let dial = format!("timeout 2 nsenter --net=/run/netns/{from} -- bash -c '</dev/tcp/{to}/{port}'");
    Ok(Command::new("sh").args(["-c", &dial]).output()?.status.success())
}
