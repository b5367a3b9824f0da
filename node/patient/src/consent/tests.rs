use proptest::prelude::*;

use super::*;
use crate::testkit::{NOW, body};

const NAMES: [&str; 4] = ["cardiology", "laboratory", "radiology", "unassigned"];

fn some_days() -> impl Strategy<Value = Option<Timestamp>> {
    proptest::option::of(
        (0_i64..20).prop_map(|day| Timestamp::from_millis(day * handover_core::time::DAY_MS)),
    )
}

fn some_departments() -> impl Strategy<Value = Option<Vec<Department>>> {
    let names = proptest::sample::subsequence(NAMES.to_vec(), 0..=4).prop_shuffle();
    proptest::option::of(names.prop_map(|names| names.iter().map(|name| name.parse().unwrap()).collect()))
}

proptest! {
    #[test]
    fn a_consent_never_reaches_beyond_the_quote(
        quoted in (some_departments(), some_days(), some_days()),
        wished in (some_departments(), some_days(), some_days()),
        without_restricted in proptest::array::uniform2(any::<bool>()),
    ) {
        let mut body = body(&[("cardiology", 1), ("laboratory", 2)]);
        body.scope.departments = quoted.0.map(|mut names| { names.sort(); names });
        (body.scope.from, body.scope.until) = (quoted.1, quoted.2);
        body.scope.without_restricted = without_restricted[0];
        let wish = Wish {
            departments: wished.0,
            from: wished.1,
            until: wished.2,
            without_restricted: without_restricted[1],
            ..Wish::default()
        };
        if let Ok(scope) = narrow(&body, &wish) {
            prop_assert!(scope.is_within(&body.scope));
            let wished = Scope {
                departments: wish.departments.clone(),
                from: wish.from,
                until: wish.until,
                without_restricted: wish.without_restricted,
                ..Scope::everything()
            };
            prop_assert!(scope.is_within(&wished));
        }
    }
}

#[test]
fn nothing_wished_is_the_whole_quote() {
    let body = body(&[("laboratory", 2)]);
    assert_eq!(narrow(&body, &Wish::default()).unwrap(), body.scope);
    let other = Wish { departments: Some(vec!["radiology".parse().unwrap()]), ..Wish::default() };
    assert!(matches!(narrow(&body, &other), Err(WalletError::NoSuchDepartment(_))));
    let backwards = Wish { from: Some(NOW), until: Some(NOW), ..Wish::default() };
    assert!(matches!(narrow(&body, &backwards), Err(WalletError::EmptyPeriod)));
}

#[test]
fn caps() {
    let mut body = body(&[("laboratory", 2), ("radiology", 1)]);
    let narrower = Scope { departments: Some(vec!["laboratory".parse().unwrap()]), ..Scope::everything() };
    let cap = |text: &str| Wish { fee_cap: Some(text.parse().unwrap()), ..Wish::default() };
    let all = body.scope.clone();
    assert_eq!(fee_cap(&body, &all, &Wish::default()).unwrap(), body.fee);
    assert_eq!(fee_cap(&body, &all, &cap("20.00 USD")).unwrap().minor(), 2000);
    assert!(matches!(fee_cap(&body, &all, &cap("12.49 USD")), Err(WalletError::CapBelowFee)));
    assert_eq!(fee_cap(&body, &narrower, &cap("1.00 USD")).unwrap().minor(), 100);
    assert!(matches!(fee_cap(&body, &all, &cap("20.00 EUR")), Err(WalletError::FeeCap(_))));
    assert!(matches!(fee_cap(&body, &narrower, &cap("-1 USD")), Err(WalletError::FeeCap(_))));
    body.payer = Payer::Hospital;
    assert_eq!(fee_cap(&body, &all, &cap("20.00 USD")).unwrap().minor(), 0);
}
