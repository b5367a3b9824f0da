//! Packages whose lie lies inside the seal: everything outside is honest, so Riverside learns of it when it opens
//! them. Such a transfer fails by name, and nothing of it is filed or charged.

use anyhow::{Context, Result, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::transfer::PackageHeader;
use handover_core::{Digest, TransferId};
use handover_seal::shares::Shares;
use handover_seal::{OsRandom, Secret32};
use handover_tests::rogue::sale::Goods;
use handover_tests::rogue::wire;

use super::stage::{LAKESIDE, RIVERSIDE, Stage, hospital, taken};

/// What is wrong, how it is made so, and what comes of it.
struct Lie {
    what: &'static str,
    goods: fn(&mut Goods),
    header: fn(&mut PackageHeader),
    code: &'static str,
}

fn honest(_: &mut PackageHeader) {}

fn unchanged(_: &mut Goods) {}

const LIES: &[Lie] = &[
    Lie {
        what: "a head for another transfer",
        goods: |it| it.head.transfer = TransferId::new(handover_tests::rogue::now(), [7; 10]),
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a head that names another destination",
        goods: |it| it.head.destination = hospital(LAKESIDE),
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a head that names another source",
        goods: |it| it.head.source = hospital(LAKESIDE),
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a head for another consent",
        goods: |it| it.head.consent = Digest::from_bytes([7; 32]),
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a head for another quote",
        goods: |it| it.head.quote = Digest::from_bytes([7; 32]),
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "more records in the head than in the header",
        goods: |it| it.head.records = 3,
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "more records promised than there are",
        goods: |it| it.head.records = 3,
        header: |it| it.records = 3,
        code: "cannot-open",
    },
    Lie {
        what: "fewer records promised than there are",
        goods: |it| it.head.records = 1,
        header: |it| it.records = 1,
        code: "package-damaged",
    },
    Lie {
        what: "another root over the records",
        goods: unchanged,
        header: |it| it.record_root = Digest::from_bytes([7; 32]),
        code: "package-mismatch",
    },
    Lie {
        what: "something behind the last record",
        goods: |it| it.trailing = vec![0; 10],
        header: honest,
        code: "package-damaged",
    },
    Lie {
        what: "a frame that is none",
        goods: |it| {
            it.records.clear();
            it.trailing = wire::framed(&[0x5a; 100]);
        },
        header: |it| it.records = 2,
        code: "package-damaged",
    },
    Lie {
        what: "a frame above the limit",
        goods: |it| {
            it.records.clear();
            it.trailing = vec![0x7f, 0xff, 0xff, 0xff];
        },
        header: |it| it.records = 2,
        code: "package-damaged",
    },
    Lie {
        what: "a record in a department that was not quoted",
        goods: |it| it.records[0].department = "cardiology".parse().expect("a department"),
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a content that no record names",
        goods: |it| it.contents.push(vec![1; 100]),
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a record that names another content",
        goods: |it| {
            let sealed = it.records[1].sealed.as_mut().expect("a large record");
            sealed.length -= 1;
        },
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a record with both contents",
        goods: |it| it.records[1].content = Some(b"{}".to_vec().into()),
        header: honest,
        code: "package-damaged",
    },
    Lie {
        what: "lines that do not add up to the basis",
        goods: |it| it.head.body.basis = "99.00".to_owned(),
        header: honest,
        code: "quote-mismatch",
    },
    Lie {
        what: "a fee that does not follow from the lines",
        goods: |it| it.head.body.lines[0].price = Some("10.00".to_owned()),
        header: honest,
        code: "quote-mismatch",
    },
    Lie {
        what: "a price that is no number",
        goods: |it| it.head.body.lines[0].price = Some("1e9".to_owned()),
        header: honest,
        code: "quote-mismatch",
    },
    Lie {
        what: "shares of something else",
        goods: |it| it.other_shares = Some(Shares::generate(&mut OsRandom)),
        header: honest,
        code: "cannot-open",
    },
    Lie {
        what: "shares that were swapped",
        goods: |it| {
            let Shares { hospital, patient } = it.shares.clone();
            it.other_shares = Some(Shares { hospital: patient, patient: hospital });
        },
        header: honest,
        code: "cannot-open",
    },
    Lie {
        what: "another commitment",
        goods: unchanged,
        header: |it| it.commitment = Digest::from_bytes([7; 32]),
        code: "cannot-open",
    },
    Lie {
        what: "a record whose content is not what its hash says",
        goods: |it| it.records[0].content_hash = Digest::from_bytes([7; 32]),
        header: honest,
        code: "package-damaged",
    },
    Lie {
        what: "a large content whose key does not open it",
        goods: |it| {
            let sealed = it.records[1].sealed.as_mut().expect("a large record");
            sealed.key = *Secret32::generate(&mut OsRandom).expose();
        },
        header: honest,
        code: "cannot-open",
    },
    Lie {
        what: "a large content that is longer than the record says",
        goods: |it| {
            let sealed = it.records[1].sealed.as_mut().expect("a large record");
            sealed.plain_bytes -= 1;
        },
        header: honest,
        code: "package-damaged",
    },
    Lie {
        what: "a large content that is not what its hash says",
        goods: |it| it.records[1].content_hash = Digest::from_bytes([7; 32]),
        header: honest,
        code: "package-damaged",
    },
    Lie {
        what: "a record that is no JSON",
        goods: |it| {
            let content = b"records, honestly".to_vec();
            it.records[0].content_hash = Digest::sha256(&[&content]);
            it.records[0].content = Some(content.into());
        },
        header: honest,
        code: "package-damaged",
    },
];

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let filed = stage.records_of_pat()?;
    for lie in LIES {
        told(stage, lie).with_context(|| lie.what)?;
    }
    ensure!(stage.records_of_pat()? == filed, "something of a lie was filed");
    Ok(())
}

fn told(stage: &mut Stage, lie: &Lie) -> Result<()> {
    let riverside = hospital(RIVERSIDE);
    let sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let mut goods = stage.rogue.goods(&sale)?;
    (lie.goods)(&mut goods);
    let package = stage.rogue.sealed(&sale, &goods, lie.header)?;
    let done = stage.rogue.deliver(&riverside, &package, |_| {})?;
    ensure!(done.delivered.is_some(), "not delivered: {done:?}");
    let key = Verified::sign(stage.rogue.key_release(&package), &stage.rogue.keys.signing);
    taken("the key", || stage.rogue.bring(&riverside, key.envelope()))?;
    stage.comes_to(RIVERSIDE, sale.transfer(), "filed", &format!("failed ({})", lie.code))
}
