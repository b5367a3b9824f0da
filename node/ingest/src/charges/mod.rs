//! Which tests a patient had at this hospital, and what each costs: what a fee is made of. Pure.
//!
//! A test is done by this hospital: a DiagnosticReport that is final unless the catalogue says no, a Procedure that
//! the catalogue says yes to, or a final laboratory Observation that belongs to no report. Its price is that of the
//! Claim item that bills it, else the price list's, else none: then it is counted and adds nothing. One charge per
//! test. Never an ExplanationOfBenefit, a Claim's total, a pharmacy Claim or an Immunization.

mod assess;
mod catalogue;
mod claim;
mod prices;

pub use assess::{Assessment, Assessor, ChargeError, Line, PriceSource};
pub use catalogue::Catalogue;
pub use prices::PriceList;
