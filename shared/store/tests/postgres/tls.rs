//! What goes to another machine goes under TLS, to the server that is meant.

use handover_cluster::{CERTIFICATE_PEM, Cluster};
use handover_store::{Database, Schema, Store, StoreError};

use crate::{cell_key, count_up};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_to_the_server_that_is_meant_only() {
    let cluster = Cluster::start_with_tls().unwrap();
    let open = |host: &str, ca: Option<&str>| {
        let url = cluster.url_at(&format!("{host}:{}", cluster.port()));
        let database = Database::from_url(&url, ca.map(str::as_bytes), &Schema::default())?;
        Store::postgres(&database, &cell_key())
    };
    let store = open("localhost", Some(CERTIFICATE_PEM)).unwrap();
    assert_eq!(count_up(&store).await.unwrap(), 1);
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'handover'";
    assert_eq!(cluster.sql(encrypted).unwrap(), "t");
    drop(store);
    let refused = |host: &str, ca: Option<&str>| match open(host, ca).map(drop) {
        Err(StoreError::Unavailable { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    // Its certificate is not for that name.
    assert!(refused("127.0.0.1", Some(CERTIFICATE_PEM)).contains("TLS"));
    // In the clear the server takes nobody.
    assert!(refused("localhost", None).contains("pg_hba.conf"));
}
