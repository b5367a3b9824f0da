//! The codes a generated patient is made of, what is a test among them, and what the list asks for it.
//!
//! `data/test-catalogue.csv` and `data/price-list.csv` say the same as [`TESTS`] does: a test in this module holds
//! them to it. The prices are invented.

/// LOINC's system URI.
pub(super) const LOINC: &str = "http://loinc.org";
/// SNOMED CT's system URI.
pub(super) const SNOMED: &str = "http://snomed.info/sct";

/// A coded concept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code {
    pub(super) system: &'static str,
    pub(super) code: &'static str,
    pub(super) display: &'static str,
}

/// A SNOMED CT concept.
pub(super) const fn snomed(code: &'static str, display: &'static str) -> Code {
    Code { system: SNOMED, code, display }
}

/// A LOINC term.
pub(super) const fn loinc(code: &'static str, display: &'static str) -> Code {
    Code { system: LOINC, code, display }
}

/// What the hospital's test catalogue says about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Catalogue {
    /// `is_test` = Y.
    Test,
    /// `is_test` = N.
    NotATest,
    /// No row.
    Absent,
}

/// A report, standalone laboratory observation or procedure that can be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    pub(super) code: Code,
    /// The catalogue's class.
    pub(super) class: &'static str,
    pub(super) catalogue: Catalogue,
    /// The price list's rows: ISO date from which it holds, price in cents. Oldest first; empty: not in the list.
    pub(super) prices: &'static [(&'static str, i64)],
}

impl Service {
    /// The listed price in cents on an ISO date: the latest not after it, else the earliest.
    pub(super) fn listed_minor(&self, date: &str) -> Option<i64> {
        let latest = self.prices.iter().rev().find(|(from, _)| *from <= date);
        latest.or(self.prices.first()).map(|(_, minor)| *minor)
    }
}

use Catalogue::{Absent, NotATest, Test};

const fn service(
    code: Code,
    class: &'static str,
    catalogue: Catalogue,
    prices: &'static [(&'static str, i64)],
) -> Service {
    Service { code, class, catalogue, prices }
}

/// Laboratory panels, in the order of `laboratory::PANELS`.
pub(super) const PANELS: [Service; 9] = [
    service(
        loinc("24323-8", "Comprehensive metabolic 2000 panel - Serum or Plasma"),
        "lab",
        Test,
        &[("2014-01-01", 6420), ("2018-07-01", 7185), ("2022-01-01", 7990)],
    ),
    service(
        loinc("51990-0", "Basic metabolic panel - Blood"),
        "lab",
        Test,
        &[("2016-04-01", 4615), ("2021-01-01", 5230)],
    ),
    service(
        loinc("57698-3", "Lipid panel with direct LDL - Serum or Plasma"),
        "lab",
        Test,
        &[("2015-01-01", 5875)],
    ),
    service(
        loinc("58410-2", "CBC panel - Blood by Automated count"),
        "lab",
        Test,
        &[("2014-01-01", 2745), ("2017-10-01", 3010), ("2020-10-01", 3395)],
    ),
    service(
        loinc("24325-3", "Hepatic function 2000 panel - Serum or Plasma"),
        "lab",
        Test,
        &[("2019-01-01", 5135)],
    ),
    service(
        loinc("24348-5", "Free T4 and TSH panel - Serum or Plasma"),
        "lab",
        Test,
        &[("2013-01-01", 8760)],
    ),
    service(loinc("24356-8", "Urinalysis complete panel - Urine"), "lab", Test, &[]),
    service(
        loinc("50190-8", "Iron and Iron binding capacity panel - Serum or Plasma"),
        "lab",
        Absent,
        &[("2015-06-01", 6955)],
    ),
    service(loinc("24336-0", "Gas panel - Arterial blood"), "lab", Absent, &[]),
];

/// Laboratory observations that stand alone.
pub(super) const SINGLE_LABS: [Service; 4] = [
    service(
        loinc("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood"),
        "lab",
        Test,
        &[("2014-01-01", 3315), ("2019-03-01", 3640)],
    ),
    service(
        loinc("2857-1", "Prostate specific Ag [Mass/volume] in Serum or Plasma"),
        "lab",
        Test,
        &[("2016-01-01", 4905)],
    ),
    service(loinc("33959-8", "Procalcitonin [Mass/volume] in Serum or Plasma"), "lab", Test, &[]),
    service(
        loinc("14959-1", "Microalbumin/Creatinine [Mass Ratio] in Urine"),
        "lab",
        Absent,
        &[("2018-01-01", 2885)],
    ),
];

/// Imaging reports.
pub(super) const IMAGING_REPORTS: [Service; 2] = [
    service(
        loinc("36643-5", "XR Chest 2 Views"),
        "imaging",
        Test,
        &[("2014-01-01", 18_450), ("2020-01-01", 21_275)],
    ),
    service(loinc("24627-2", "CT Chest"), "imaging", Test, &[("2015-01-01", 74_390)]),
];

/// Reports that are no tests: what a doctor wrote.
pub(super) const NOTES: [Service; 2] = [
    service(loinc("34117-2", "History and physical note"), "note", NotATest, &[("2014-01-01", 15_000)]),
    service(loinc("18842-5", "Discharge summary"), "note", NotATest, &[]),
];

/// Procedures that are tests.
pub(super) const TEST_PROCEDURES: [Service; 9] = [
    service(
        snomed("399208008", "Plain chest X-ray"),
        "imaging",
        Test,
        &[("2014-01-01", 19_825), ("2019-07-01", 22_410)],
    ),
    service(snomed("19490002", "Ankle X-ray"), "imaging", Test, &[("2016-01-01", 16_535)]),
    service(snomed("60027007", "Radiography of wrist"), "imaging", Test, &[("2014-01-01", 15_255)]),
    service(
        snomed("29303009", "Electrocardiographic procedure"),
        "diagnostic",
        Test,
        &[("2014-01-01", 9_460), ("2021-04-01", 10_815)],
    ),
    service(snomed("40701008", "Echocardiography"), "imaging", Test, &[("2017-01-01", 68_745)]),
    service(snomed("127783003", "Spirometry"), "diagnostic", Test, &[("2015-01-01", 12_305)]),
    service(
        snomed("73761001", "Colonoscopy"),
        "diagnostic",
        Test,
        &[("2014-01-01", 132_995), ("2020-01-01", 148_370)],
    ),
    service(snomed("167995008", "Sputum microscopy"), "lab", Test, &[]),
    service(snomed("71651007", "Mammography"), "imaging", Test, &[("2018-01-01", 27_660)]),
];

/// Where the electrocardiogram stands in [`TEST_PROCEDURES`].
pub(super) const ECG: Service = TEST_PROCEDURES[3];

/// Procedures that are treatment or paperwork.
pub(super) const OTHER_PROCEDURES: [Service; 7] = [
    service(snomed("80146002", "Appendectomy"), "surgery", NotATest, &[("2014-01-01", 1_184_500)]),
    service(snomed("274474001", "Bone immobilization"), "therapy", NotATest, &[("2014-01-01", 41_275)]),
    service(snomed("288086009", "Suture open wound"), "therapy", NotATest, &[]),
    service(snomed("430193006", "Medication Reconciliation"), "other", NotATest, &[]),
    service(snomed("265764009", "Renal dialysis"), "therapy", NotATest, &[("2016-01-01", 96_530)]),
    service(snomed("171207006", "Depression screening"), "assessment", NotATest, &[]),
    service(snomed("76601001", "Intramuscular injection"), "therapy", NotATest, &[("2014-01-01", 3_890)]),
];

/// A procedure that the catalogue does not know: never a test, whatever the price list and the claim say.
pub(super) const UNCATALOGUED: Service =
    service(snomed("312681000", "Bone density scan"), "imaging", Absent, &[("2014-01-01", 21_145)]);

/// Every table above.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = Service> {
    let procedures = TEST_PROCEDURES.into_iter().chain(OTHER_PROCEDURES).chain([UNCATALOGUED]);
    PANELS.into_iter().chain(SINGLE_LABS).chain(IMAGING_REPORTS).chain(NOTES).chain(procedures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::{PRICE_LIST_CSV, TEST_CATALOGUE_CSV};

    #[test]
    fn the_latest_price_not_after_the_day_else_the_earliest() {
        let [metabolic, ..] = PANELS;
        for (date, minor) in
            [("2012-05-05", 6420), ("2018-06-30", 6420), ("2018-07-01", 7185), ("2025-01-01", 7990)]
        {
            assert_eq!(metabolic.listed_minor(date), Some(minor), "{date}");
        }
        assert_eq!(service(loinc("", ""), "", Test, &[]).listed_minor("2020-01-01"), None);
    }

    #[test]
    fn the_shipped_catalogue_says_the_same() {
        let mut csv = String::from("system,code,display,class,is_test\n");
        for Service { code, class, catalogue, .. } in all().filter(|known| known.catalogue != Absent) {
            let flag = if catalogue == Test { 'Y' } else { 'N' };
            csv += &format!("{},{},{},{class},{flag}\n", code.system, code.code, code.display);
        }
        assert_eq!(TEST_CATALOGUE_CSV, csv, "--- write this:\n{csv}");
    }

    #[test]
    fn the_shipped_price_list_says_the_same() {
        let mut csv = String::from(
            "CCN,NPI,HPID,Charge_Code,Charge_Code_Description,Code_Source,Code_Version,Code,Price,Price_Date\n",
        );
        for (number, Service { code, prices, .. }) in
            all().filter(|known| !known.prices.is_empty()).enumerate()
        {
            let (source, version) =
                if code.system == LOINC { ("LOINC", "2.77") } else { ("SNOMED", "2024-03") };
            for (date, minor) in prices {
                let (year, day) = date.split_once('-').unwrap();
                csv += &format!(
                    "990001,,,HC-{:04},{},{source},{version},{},{}.{:02},{day}-{year}\n",
                    number + 1,
                    code.display,
                    code.code,
                    minor / 100,
                    minor % 100
                );
            }
        }
        assert_eq!(PRICE_LIST_CSV, csv, "--- write this:\n{csv}");
    }
}
