//! Packages whose lie lies inside the seal: everything outside is honest, so Riverside learns of it when it opens
//! them. Such a transfer fails by name, and nothing of it is filed or charged.

use anyhow::{Context, Result, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::transfer::{OtherTests, PACKAGE_MAX_RECORDS, PackageHeader, QuoteBody};
use handover_core::codec::Extensions;
use handover_core::{Amount, Digest, Timestamp, TransferId};
use handover_seal::shares::Shares;
use handover_seal::{OsRandom, Secret32};
use handover_tests::rogue::sale::Goods;
use handover_tests::rogue::wire;

use super::stage::{LAKESIDE, RIVERSIDE, Stage, hospital, taken};

/// What is wrong, how it is made so, and what comes of it.
struct Lie {
    what: &'static str,
    body: fn(&mut QuoteBody),
    goods: fn(&mut Goods),
    header: fn(&mut PackageHeader),
    code: &'static str,
}

fn honest(_: &mut PackageHeader) {}

fn unchanged(_: &mut Goods) {}

fn true_body(_: &mut QuoteBody) {}

const LIES: &[Lie] = &[
    Lie {
        what: "a head for another transfer",
        body: true_body,
        goods: |it| it.head.transfer = TransferId::new(handover_tests::rogue::now(), [7; 10]),
        header: honest,
        code: "manifest-mismatch",
    },
    Lie {
        what: "a head that names another destination",
        body: true_body,
        goods: |it| it.head.destination = hospital(LAKESIDE),
        header: honest,
        code: "manifest-mismatch",
    },
    Lie {
        what: "a head that names another source",
        body: true_body,
        goods: |it| it.head.source = hospital(LAKESIDE),
        header: honest,
        code: "manifest-mismatch",
    },
    Lie {
        what: "a head for another consent",
        body: true_body,
        goods: |it| it.head.consent = Digest::from_bytes([7; 32]),
        header: honest,
        code: "manifest-mismatch",
    },
    Lie {
        what: "a head for another quote",
        body: true_body,
        goods: |it| it.head.quote = Digest::from_bytes([7; 32]),
        header: honest,
        code: "manifest-mismatch",
    },
    Lie {
        what: "more records promised than a package may have",
        body: true_body,
        goods: |it| it.head.records = PACKAGE_MAX_RECORDS + 1,
        header: honest,
        code: "too-large",
    },
    Lie {
        what: "more records promised than were quoted",
        body: true_body,
        goods: |it| it.head.records = 3,
        header: honest,
        code: "package-not-as-quoted",
    },
    Lie {
        what: "more records quoted and promised than there are",
        body: |it| (it.records, it.departments[0].records) = (3, 3),
        goods: |it| it.head.records = 3,
        header: honest,
        code: "package-not-as-quoted",
    },
    Lie {
        what: "fewer records quoted and promised than there are",
        body: |it| (it.records, it.departments[0].records) = (1, 1),
        goods: |it| it.head.records = 1,
        header: honest,
        code: "package-not-as-quoted",
    },
    Lie {
        what: "less than was quoted, in a package that is whole",
        body: true_body,
        goods: |it| {
            it.records.pop();
            it.contents.pop();
            it.head.records = 1;
        },
        header: honest,
        code: "package-not-as-quoted",
    },
    Lie {
        what: "a restricted record that is said to be none",
        body: true_body,
        goods: |it| {
            let labels = r#"{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]}"#;
            let json = format!(r#"{{"resourceType":"DiagnosticReport","id":"r-1","meta":{labels}}}"#);
            it.records[0].content_hash = Digest::sha256(&[json.as_bytes()]);
            it.records[0].content = Some(json.into_bytes().into());
        },
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "one record twice instead of two",
        body: true_body,
        goods: |it| {
            it.contents.pop();
            it.records[1] = it.records[0].clone();
        },
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a test to be paid for that is not sent",
        body: |it| it.lines[0].record = "DiagnosticReport/r-9".to_owned(),
        goods: unchanged,
        header: honest,
        code: "package-not-as-quoted",
    },
    Lie {
        what: "a test to be paid for twice",
        body: |it| it.lines[1].record = it.lines[0].record.clone(),
        goods: unchanged,
        header: honest,
        code: "quote-false",
    },
    Lie {
        what: "tests besides those that are sent",
        body: |it| {
            let others = OtherTests {
                tests: 1,
                unpriced: 0,
                basis: "0.00".to_owned(),
                extensions: Extensions::default(),
            };
            it.other_tests = Some(others);
        },
        goods: unchanged,
        header: honest,
        code: "quote-false",
    },
    Lie {
        what: "another root over the records",
        body: true_body,
        goods: unchanged,
        header: |it| it.record_root = Digest::from_bytes([7; 32]),
        code: "package-mismatch",
    },
    Lie {
        what: "something behind the last record",
        body: true_body,
        goods: |it| it.trailing = vec![0; 10],
        header: honest,
        code: "package-not-as-quoted",
    },
    Lie {
        what: "a frame that is none",
        body: true_body,
        goods: |it| {
            it.records.clear();
            it.trailing = wire::framed(&[0x5a; 100]);
        },
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a frame above the limit",
        body: true_body,
        goods: |it| {
            it.records.clear();
            it.trailing = vec![0x7f, 0xff, 0xff, 0xff];
        },
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a record in a department that was not quoted",
        body: true_body,
        goods: |it| it.records[0].department = "cardiology".parse().expect("a department"),
        header: honest,
        code: "package-not-as-quoted",
    },
    Lie {
        what: "a content that no record names",
        body: true_body,
        goods: |it| it.contents.push(vec![1; 100]),
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a record that names another content",
        body: true_body,
        goods: |it| {
            let sealed = it.records[1].sealed.as_mut().expect("a large record");
            sealed.length -= 1;
        },
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a record with both contents",
        body: true_body,
        goods: |it| it.records[1].content = Some(b"{}".to_vec().into()),
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "another body than the one quoted",
        body: true_body,
        goods: |it| it.head.body.salt = [7; 16],
        header: honest,
        code: "quote-mismatch",
    },
    Lie {
        what: "lines that do not add up to the basis",
        body: |it| it.basis = "99.00".to_owned(),
        goods: unchanged,
        header: honest,
        code: "quote-false",
    },
    Lie {
        what: "lines without a price that are not counted",
        body: |it| it.unpriced = 0,
        goods: unchanged,
        header: honest,
        code: "quote-false",
    },
    Lie {
        what: "a test that was charged before and is charged again",
        body: |it| it.lines[0].charged_by = Some(TransferId::new(Timestamp::from_millis(1), [7; 10])),
        goods: unchanged,
        header: honest,
        code: "quote-false",
    },
    Lie {
        what: "a fee that does not follow from the basis",
        body: |it| it.fee = Amount::from_minor(501, it.fee.currency()),
        goods: unchanged,
        header: honest,
        code: "quote-false",
    },
    Lie {
        what: "a rate that nobody ordered",
        body: |it| (it.rate_bps, it.fee) = (5_000, Amount::from_minor(5_000, it.fee.currency())),
        goods: unchanged,
        header: honest,
        code: "quote-false",
    },
    Lie {
        what: "a price that is no amount",
        body: |it| it.lines[0].price = Some("NaN".to_owned()),
        goods: unchanged,
        header: honest,
        code: "quote-false",
    },
    Lie {
        what: "a lower fee in the header than was quoted",
        body: true_body,
        goods: unchanged,
        header: |it| it.fee = Amount::from_minor(1, it.fee.currency()),
        code: "quote-mismatch",
    },
    Lie {
        what: "a record outside of what was consented to",
        body: |it| {
            let quoted = it.departments.iter().map(|it| it.department.clone()).collect();
            it.scope.departments = Some(quoted);
        },
        goods: |it| it.records[0].department = "cardiology".parse().expect("a department"),
        header: honest,
        code: "consent-out-of-scope",
    },
    Lie {
        what: "another suite",
        body: true_body,
        goods: unchanged,
        header: |it| it.suite = 9,
        code: "package-mismatch",
    },
    Lie {
        what: "shares of something else",
        body: true_body,
        goods: |it| it.other_shares = Some(Shares::generate(&mut OsRandom)),
        header: honest,
        code: "shares-mismatch",
    },
    Lie {
        what: "shares that were swapped",
        body: true_body,
        goods: |it| {
            let Shares { hospital, patient } = it.shares.clone();
            it.other_shares = Some(Shares { hospital: patient, patient: hospital });
        },
        header: honest,
        code: "shares-mismatch",
    },
    Lie {
        what: "another commitment",
        body: true_body,
        goods: unchanged,
        header: |it| it.commitment = Digest::from_bytes([7; 32]),
        code: "shares-mismatch",
    },
    Lie {
        what: "a record whose content is not what its hash says",
        body: true_body,
        goods: |it| it.records[0].content_hash = Digest::from_bytes([7; 32]),
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a large content whose key does not open it",
        body: true_body,
        goods: |it| {
            let sealed = it.records[1].sealed.as_mut().expect("a large record");
            sealed.key = *Secret32::generate(&mut OsRandom).expose();
        },
        header: honest,
        code: "cannot-open",
    },
    Lie {
        what: "a large content that is longer than the record says",
        body: true_body,
        goods: |it| {
            let sealed = it.records[1].sealed.as_mut().expect("a large record");
            sealed.plain_bytes -= 1;
        },
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a large content that is not what its hash says",
        body: true_body,
        goods: |it| it.records[1].content_hash = Digest::from_bytes([7; 32]),
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a record that says of itself that it is another",
        body: true_body,
        goods: |it| it.records[0].resource_id = "r-2".to_owned(),
        header: honest,
        code: "package-mismatch",
    },
    Lie {
        what: "a record that is no JSON",
        body: true_body,
        goods: |it| {
            let content = b"records, honestly".to_vec();
            it.records[0].content_hash = Digest::sha256(&[&content]);
            it.records[0].content = Some(content.into());
        },
        header: honest,
        code: "package-mismatch",
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
    let (_, mut sale) = stage.rogue.requested(&stage.world, &stage.pat, RIVERSIDE)?;
    (lie.body)(&mut sale.body);
    sale.quote = stage.rogue.quote(&sale.request, &sale.body)?;
    stage.rogue.agree(&stage.world, &stage.pat, &mut sale)?;
    let mut goods = stage.rogue.goods(&sale)?;
    (lie.goods)(&mut goods);
    let package = stage.rogue.sealed(&sale, &goods, lie.header)?;
    let done = stage.rogue.deliver(&riverside, &package, |_| {})?;
    ensure!(done.delivered.is_some(), "not delivered: {done:?}");
    let key = Verified::sign(stage.rogue.key_release(&package), &stage.rogue.keys.signing);
    taken("the key", || stage.rogue.bring(&riverside, key.envelope()))?;
    stage.comes_to(RIVERSIDE, sale.transfer(), "filed", &format!("failed ({})", lie.code))
}
