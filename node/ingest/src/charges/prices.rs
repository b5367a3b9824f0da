//! A hospital's price list: CSV with the column names that CMS proposed for chargemasters, of which `Code_Source`,
//! `Code`, `Price` and `Price_Date` (`MM-DD-YYYY` or `YYYY-MM-DD`) are read. Prices are in the hospital's currency.

use std::collections::{BTreeMap, HashMap};

use handover_core::Currency;

use crate::exact::ExactAmount;
use crate::fault::FileFaults;
use crate::resource::{Coding, is_date};
use crate::table::{Found, rows};

/// Code sources as price lists call them, and the system URI that FHIR records have.
const SYSTEMS: &[(&str, &str)] = &[
    ("LOINC", "http://loinc.org"),
    ("LN", "http://loinc.org"),
    ("SNOMED", "http://snomed.info/sct"),
    ("SNOMED CT", "http://snomed.info/sct"),
    ("SNOMED-CT", "http://snomed.info/sct"),
    ("SCT", "http://snomed.info/sct"),
    ("CPT", "http://www.ama-assn.org/go/cpt"),
    ("CPT-4", "http://www.ama-assn.org/go/cpt"),
    ("HCPCS", "https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets"),
    ("ICD-10-PCS", "http://www.cms.gov/Medicare/Coding/ICD10"),
    ("NDC", "http://hl7.org/fhir/sid/ndc"),
];

/// Code sources of rows that are no test's price: groups of cases, revenue centres, the hospital's own numbers.
const NOT_TESTS: &[&str] = &["MS-DRG", "DRG", "APR-DRG", "APC", "RC", "REVENUE", "CDM", "LOCAL"];

/// Prices by code and date.
#[derive(Clone, Debug)]
pub struct PriceList {
    currency: Currency,
    /// By system and code: the price from each date on.
    prices: HashMap<(String, String), BTreeMap<String, ExactAmount>>,
    passed_over: usize,
}

impl PriceList {
    /// Without any price.
    #[must_use]
    pub fn empty(currency: Currency) -> Self {
        Self { currency, prices: HashMap::new(), passed_over: 0 }
    }

    /// Reads the CSV file.
    ///
    /// # Errors
    /// Every fault of the file, with its line.
    pub fn from_csv(csv: &[u8], currency: Currency) -> Result<Self, FileFaults> {
        let mut found = Found::default();
        let mut list = Self::empty(currency);
        let columns = ["Code_Source", "Code", "Price", "Price_Date"];
        rows(csv, columns, &mut found, |line, [source, code, price, date], found| {
            if NOT_TESTS.iter().any(|known| known.eq_ignore_ascii_case(source)) {
                list.passed_over += 1;
                return;
            }
            let system = system(source);
            if system.is_none() {
                found.add(
                    line,
                    format!("Code_Source {source:?} is not known; a system's URI is taken as it stands"),
                );
            }
            if code.is_empty() {
                found.add(line, "Code is missing");
            }
            let price = price.parse::<ExactAmount>().ok().filter(|price| !price.is_negative());
            if price.is_none() {
                found.add(line, "Price is not a decimal number, at least 0");
            }
            let date = iso_date(date);
            if date.is_none() {
                found.add(line, "Price_Date is MM-DD-YYYY or YYYY-MM-DD");
            }
            let (Some(system), Some(price), Some(date)) = (system, price, date) else { return };
            let dates = list.prices.entry((system.to_owned(), code.to_owned())).or_default();
            if dates.insert(date, price).is_some_and(|before| before != price) {
                found.add(line, format!("{code} has two prices from the same date on"));
            }
        });
        found.or("line", list)
    }

    /// The currency of every price.
    #[must_use]
    pub const fn currency(&self) -> Currency {
        self.currency
    }

    /// Rows that are no test's price (case groups, revenue centres).
    #[must_use]
    pub const fn passed_over(&self) -> usize {
        self.passed_over
    }

    /// The price of the first of the codes that the list has, on `day` (`YYYY-MM-DD`, or less of it): the latest
    /// that is not after it, else the earliest.
    #[must_use]
    pub fn price<'a>(&self, codings: &'a [Coding], day: Option<&str>) -> Option<(&'a Coding, ExactAmount)> {
        codings.iter().find_map(|coding| {
            let key = (coding.system.clone()?, coding.code.clone());
            let dates = self.prices.get(&key)?;
            let latest = day.and_then(|day| dates.iter().rev().find(|(from, _)| from.as_str() <= day));
            latest.or_else(|| dates.first_key_value()).map(|(_, price)| (coding, *price))
        })
    }
}

fn system(source: &str) -> Option<&str> {
    let known = SYSTEMS.iter().find(|(name, _)| name.eq_ignore_ascii_case(source)).map(|(_, system)| *system);
    known.or_else(|| (source.contains("://") || source.starts_with("urn:")).then_some(source))
}

fn iso_date(text: &str) -> Option<String> {
    let iso = match text.split('-').collect::<Vec<_>>().as_slice() {
        [month, day, year] if year.len() == 4 => format!("{year}-{month:0>2}-{day:0>2}"),
        _ => text.to_owned(),
    };
    (iso.len() == 10 && is_date(&iso)).then_some(iso)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "CCN,Code_Source,Code,Price,Price_Date\n\
        1,LOINC,24321-2,48.23,01-01-2019\n1,LOINC,24321-2,50,2021-07-01\n1,MS-DRG,470,20000,01-01-2019\n";

    fn usd() -> Currency {
        "USD".parse().unwrap()
    }

    #[test]
    fn the_price_of_the_day_is_taken() {
        let list = PriceList::from_csv(CSV.as_bytes(), usd()).unwrap();
        let codings =
            [Coding { system: Some("http://loinc.org".into()), code: "24321-2".into(), display: None }];
        for (day, price) in [
            (Some("2010-05-05"), "48.23"),
            (Some("2021-06-30"), "48.23"),
            (Some("2021-07-01"), "50"),
            (Some("2026"), "50"),
            (None, "48.23"),
        ] {
            assert_eq!(list.price(&codings, day).unwrap().1.to_string(), price, "{day:?}");
        }
        assert_eq!(list.passed_over(), 1);
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let csv = "Code_Source,Code,Price,Price_Date\nX,1,2,2019-01-01\nLOINC,,-1,13-01-2019\nLOINC,a,1,1-1-2019\nLOINC,a,2,2019-01-01\n";
        let faults = PriceList::from_csv(csv.as_bytes(), usd()).unwrap_err();
        let lines: Vec<_> = faults.faults.iter().map(|fault| fault.position).collect();
        assert_eq!(lines, [2, 3, 3, 3, 5], "{faults}");
    }
}
