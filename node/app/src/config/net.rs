//! Addresses in the configuration, and the relays through which others reach a node that nobody can dial.

use handover_cli::Reader;
use handover_net::{AddressPurpose, check_address};

pub(super) fn addresses(reader: &mut Reader, key: &str, purpose: AddressPurpose) -> Vec<String> {
    let all: Vec<String> = reader.list(key);
    if all.is_empty() && purpose != AddressPurpose::Advertise {
        reader.fault(key, "needs at least one address");
    }
    check_each(reader, key, &all, purpose);
    all
}

fn check_each(reader: &mut Reader, key: &str, all: &[String], purpose: AddressPurpose) {
    for (at, address) in all.iter().enumerate() {
        if let Err(shape) = check_address(address, purpose) {
            reader.fault(&format!("{key}.{at}"), shape);
        }
    }
}

/// The relays of a node behind address translation: the index, if no others are named.
pub(super) fn relays(reader: &mut Reader, index: &[String], serves: bool) -> Vec<String> {
    let behind_nat = reader.default("net.behind_nat", false);
    let named: Vec<String> = reader.list("net.relays");
    check_each(reader, "net.relays", &named, AddressPurpose::Dial);
    if !behind_nat {
        if !named.is_empty() {
            reader.fault("net.relays", "is for a node that nobody can dial: it needs behind_nat = true, too");
        }
        return Vec::new();
    }
    if serves {
        reader.fault("net.serves_as_relay", "a relay has to be dialled: not with behind_nat = true");
    }
    if named.is_empty() { index.to_vec() } else { named }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, tests::sample};

    #[test]
    fn one_line_has_a_node_reached_through_the_index() {
        let load = |more: &str| {
            let text = sample().replace("[net]\n", &format!("[net]\n{more}\n"));
            Config::from_text(&text, Path::new("/etc/handover"))
        };
        assert!(load("").unwrap().relays.is_empty());
        let config = load("behind_nat = true").unwrap();
        assert_eq!(config.relays, config.index_addresses);
        for (more, fault) in [
            ("relays = [\"/ip4/192.0.2.1/tcp/1\"]", "net.relays.0: needs an address that ends in /p2p/"),
            ("relays = [\"/ip4/192.0.2.1/tcp/1\"]", "net.relays: is for a node that nobody can dial"),
            ("behind_nat = true\nserves_as_relay = true", "net.serves_as_relay: a relay has to be dialled"),
        ] {
            let error = load(more).unwrap_err();
            assert!(error.detail.contains(fault), "{}", error.detail);
        }
    }
}
