use std::net::SocketAddr;

use super::*;

const TEXT: &str = r#"
name = "north"
[net]
listen = "127.0.0.1:7000"
max_peers = 12
relay = true
[[indexes]]
address = "10.0.0.1:1"
[[indexes]]
address = "10.0.0.2:2"
[departments.cardiology]
label = "Cardiology"
[departments.laboratory]
label = "Laboratory"
[web]
names = ["localhost", "127.0.0.1"]
"#;

fn faults(reader: Reader) -> Vec<(String, String)> {
    let faults = reader.finish().unwrap_err().faults;
    faults.into_iter().map(|fault| (fault.key, fault.reason)).collect()
}

#[test]
fn every_kind_of_value_is_read() {
    let mut reader = Reader::from_text(TEXT).unwrap();
    assert_eq!(reader.required("name"), Some("north".to_owned()));
    assert_eq!(reader.required("net.listen"), Some(SocketAddr::from(([127, 0, 0, 1], 7000))));
    assert_eq!(reader.range("net.max_peers", 64_u16, 1..=100), 12);
    assert!(reader.default("net.relay", false));
    assert_eq!(reader.default("net.timeout_ms", 5_000_u64), 5_000);
    assert_eq!(reader.optional::<u64>("net.absent"), None);
    assert_eq!(reader.count("indexes"), 2);
    assert_eq!(reader.required("indexes.1.address"), Some("10.0.0.2:2".to_owned()));
    assert_eq!(reader.required("indexes.0.address"), Some("10.0.0.1:1".to_owned()));
    for name in reader.names("departments") {
        reader.required::<String>(&format!("departments.{name}.label")).unwrap();
    }
    assert_eq!(reader.list::<String>("web.names"), ["localhost", "127.0.0.1"]);
    assert_eq!(reader.list::<String>("web.others"), [""; 0]);
    reader.finish().unwrap();
}

#[test]
fn all_faults_are_reported_at_once() {
    let text = "typo = 1\n[net]\nlisten = \"secret-word\"\nmax_peers = 1000\nold = 1\n[gone]\na = 1\nb = 2\n\
                [web]\nports = [1, \"x\"]\nname = [1]\n";
    let mut reader = Reader::from_text(text).unwrap();
    assert_eq!(reader.required::<SocketAddr>("net.listen"), None);
    assert_eq!(reader.range("net.max_peers", 64_u16, 1..=100), 64);
    assert_eq!(reader.required::<String>("data_folder"), None);
    assert_eq!(reader.list::<u16>("web.ports"), [1]);
    assert_eq!(reader.optional::<String>("web.name"), None);
    let found = faults(reader);
    let expected = [
        ("data_folder", "is missing"),
        ("gone", "is not known"),
        ("net.listen", "invalid socket address syntax"),
        ("net.max_peers", "has to lie between 1 and 100"),
        ("net.old", "is not known"),
        ("typo", "is not known"),
        ("web.name", "has to be a single value"),
        ("web.ports.1", "invalid digit found in string"),
    ];
    let expected: Vec<_> = expected.map(|(key, reason)| (key.to_owned(), reason.to_owned())).into();
    assert_eq!(found, expected);
}

#[test]
fn a_value_where_a_table_belongs_is_a_fault() {
    let mut reader = Reader::from_text("net = 5\nindexes = 1\ndepartments = 2\n").unwrap();
    assert_eq!(reader.default("net.port", 9_u16), 9);
    assert_eq!(reader.count("indexes"), 0);
    assert!(reader.names("departments").is_empty());
    let keys: Vec<_> = faults(reader).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["departments", "indexes", "net"]);
}

#[test]
fn building_needs_every_required_value() {
    let mut reader = Reader::from_text("port = 1\n").unwrap();
    let port = reader.required::<u16>("port");
    let name = reader.required::<String>("name");
    let error = reader.finish_with(|| Some((port?, name?))).unwrap_err();
    assert_eq!(error.to_string(), "1 fault in the configuration\nname: is missing");
    assert_eq!(CliError::from(error).code, Code::ConfigInvalid);

    let mut reader = Reader::from_text("port = 1\n").unwrap();
    let port = reader.required::<u16>("port");
    assert_eq!(reader.finish_with(|| port), Ok(1));
    let reader = Reader::from_text("").unwrap();
    assert_eq!(reader.finish_with(|| None::<()>).unwrap_err().faults.len(), 1);
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    let reason = |path: &Path| {
        let error = Reader::from_file(path).unwrap_err();
        assert_eq!(error.file.as_deref(), Some(path));
        error.faults[0].reason.clone()
    };
    assert!(reason(&path).starts_with("the file cannot be read"));
    std::fs::write(&path, vec![b'#'; MAX_CONFIG_BYTES + 1]).unwrap();
    assert!(reason(&path).contains("larger than 65536 bytes"));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(reason(&path).contains("UTF-8"));
    std::fs::write(&path, "a = 1\nkey = secret-word\n").unwrap();
    let syntax = reason(&path);
    assert!(syntax.starts_with("line 2: "), "{syntax}");
    assert!(!syntax.contains("secret-word"), "{syntax}");
    std::fs::write(&path, "a = 1\n").unwrap();
    let mut reader = Reader::from_file(&path).unwrap();
    assert_eq!(reader.required::<u8>("a"), Some(1));
    reader.finish().unwrap();
}
