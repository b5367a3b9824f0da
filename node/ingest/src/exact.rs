//! Amounts as they stand in records: decimals with more digits than a currency has, added up exactly. Rounding
//! happens once, when the fee is made ([`fee`]). Integers only; every operation is checked.

use std::fmt;
use std::str::FromStr;

use handover_core::money::MoneyError;
use handover_core::{Amount, Currency};

/// Digits after the point that are held.
const SCALE: u32 = 18;
/// One whole unit.
const ONE: i128 = 10_i128.pow(SCALE);
/// The most digits that are read, and the largest exponent: enough for every amount, and a bound.
const MAX_DIGITS: usize = 60;
/// Basis points in a whole.
const BPS: i128 = 10_000;

/// An exact decimal: a whole number of 10⁻¹⁸, up to about 1.7 × 10²⁰ in size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExactAmount(i128);

impl ExactAmount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The sum; `None` if it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference; `None` if it does not fit.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The product; `None` if it does not fit or has more digits than are held.
    #[must_use]
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        let (a, b) = (Decimal::of(self), Decimal::of(other));
        Decimal { digits: a.digits.checked_mul(b.digits)?, scale: a.scale + b.scale }.exact()
    }

    /// Whether it is below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// With at least the currency's digits after the point: `1098.87`, `9.905`.
    #[must_use]
    pub fn to_decimal_string(self, currency: Currency) -> String {
        self.print(usize::from(currency.exponent()))
    }

    fn print(self, least_digits: usize) -> String {
        let (whole, part) =
            (self.0.unsigned_abs() / ONE.unsigned_abs(), self.0.unsigned_abs() % ONE.unsigned_abs());
        let part = format!("{part:018}");
        let kept = part.trim_end_matches('0').len().max(least_digits);
        let sign = if self.0 < 0 { "-" } else { "" };
        match part.get(..kept) {
            Some(digits) if kept > 0 => format!("{sign}{whole}.{digits}"),
            _ => format!("{sign}{whole}"),
        }
    }
}

/// A number without its trailing zeros: `digits` × 10^-`scale`.
#[derive(Clone, Copy)]
struct Decimal {
    digits: i128,
    scale: u32,
}

impl Decimal {
    fn of(amount: ExactAmount) -> Self {
        Self { digits: amount.0, scale: SCALE }.trimmed()
    }

    const fn trimmed(mut self) -> Self {
        while self.scale > 0 && self.digits % 10 == 0 {
            self.digits /= 10;
            self.scale -= 1;
        }
        self
    }

    fn exact(self) -> Option<ExactAmount> {
        let Self { digits, scale } = self.trimmed();
        let more = 10_i128.checked_pow(SCALE.checked_sub(scale)?)?;
        digits.checked_mul(more).map(ExactAmount)
    }
}

/// Reads a JSON number (RFC 8259, section 6), exactly.
impl FromStr for ExactAmount {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                let unsigned = exponent.trim_start_matches(['+', '-']);
                if exponent.len() > unsigned.len() + 1 || unsigned.is_empty() || unsigned.len() > 3 {
                    return Err(MoneyError::NotADecimal);
                }
                (mantissa, exponent.parse::<i32>().map_err(|_| MoneyError::NotADecimal)?)
            }
            None => (text, 0),
        };
        let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
        let (whole, part) = unsigned.split_once('.').map_or((unsigned, None), |(w, p)| (w, Some(p)));
        let digits_only = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits_only(whole) || part.is_some_and(|part| !digits_only(part)) {
            return Err(MoneyError::NotADecimal);
        }
        let part = part.unwrap_or("").trim_end_matches('0');
        let joined = format!("{whole}{part}");
        if joined.len() > MAX_DIGITS {
            return Err(MoneyError::OutOfRange);
        }
        let mut digits: i128 = joined.parse().map_err(|_| MoneyError::OutOfRange)?;
        if mantissa.starts_with('-') {
            digits = -digits;
        }
        let scale = i32::try_from(part.len()).map_err(|_| MoneyError::OutOfRange)? - exponent;
        let fitted = match u32::try_from(scale) {
            Ok(scale) => Decimal { digits, scale }.exact(),
            Err(_) if digits == 0 => Some(Self::ZERO),
            Err(_) => 10_i128
                .checked_pow(scale.unsigned_abs())
                .and_then(|more| digits.checked_mul(more))
                .and_then(|digits| Decimal { digits, scale: 0 }.exact()),
        };
        fitted.ok_or(MoneyError::OutOfRange)
    }
}

/// Without more digits than needed.
impl fmt::Display for ExactAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print(0))
    }
}

/// The fee on `basis` at `rate_bps` basis points, rounded once, half away from zero, to the currency's minor unit.
///
/// # Errors
/// [`MoneyError::OutOfRange`] if it does not fit.
pub fn fee(basis: ExactAmount, rate_bps: u32, currency: Currency) -> Result<Amount, MoneyError> {
    round(basis, i128::from(rate_bps), BPS, currency)
}

/// An exact amount in minor units, rounded half away from zero: for showing, never for adding up.
///
/// # Errors
/// [`MoneyError::OutOfRange`] if it does not fit.
pub fn rounded(amount: ExactAmount, currency: Currency) -> Result<Amount, MoneyError> {
    round(amount, 1, 1, currency)
}

fn round(amount: ExactAmount, times: i128, over: i128, currency: Currency) -> Result<Amount, MoneyError> {
    let divide = || {
        let minor_unit = 10_i128.checked_pow(SCALE.checked_sub(u32::from(currency.exponent()))?)?;
        let divisor = minor_unit.checked_mul(over)?;
        let product = amount.0.checked_mul(times)?;
        let (quotient, rest) = (product.checked_div(divisor)?, product.checked_rem(divisor)?);
        let up = if rest.unsigned_abs() >= divisor.unsigned_abs().div_ceil(2) { product.signum() } else { 0 };
        i64::try_from(quotient.checked_add(up)?).ok()
    };
    divide().map(|minor| Amount::from_minor(minor, currency)).ok_or(MoneyError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(text: &str) -> ExactAmount {
        text.parse().unwrap()
    }

    #[test]
    fn decimals_are_read_exactly() {
        for (text, printed) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("129.160", "129.16"),
            ("28.104000000000003", "28.104000000000003"),
            ("1.5e3", "1500"),
            ("15E-1", "1.5"),
            ("-0.10", "-0.1"),
            ("100000000000000000000", "100000000000000000000"),
            ("0.000000000000000001", "0.000000000000000001"),
        ] {
            assert_eq!(exact(text).to_string(), printed, "{text}");
        }
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e+-1",
            "1e9999",
            "NaN",
            "0x1",
            "1 ",
            "1e30",
            "0.0000000000000000001",
        ] {
            assert!(bad.parse::<ExactAmount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn fees_are_rounded_half_away_from_zero() {
        let usd = "USD".parse().unwrap();
        for (basis, minor) in
            [("198.10", 991), ("198.09", 990), ("-198.10", -991), ("0", 0), ("21977.40", 109_887)]
        {
            assert_eq!(fee(exact(basis), 500, usd).unwrap().minor(), minor, "{basis}");
        }
        let yen = "JPY".parse().unwrap();
        assert_eq!(fee(exact("10"), 500, yen).unwrap().minor(), 1);
        assert!(fee(exact("100000000000000000000"), 500, usd).is_err());
    }

    #[test]
    fn products_are_exact() {
        let product = exact("0.333333333333").checked_mul(exact("1.5"));
        assert_eq!(product, Some(exact("0.4999999999995")));
        assert_eq!(exact("0.000000000001").checked_mul(exact("0.0000001")), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(units in any::<i128>()) {
            let amount = ExactAmount(units);
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }

        #[test]
        fn any_text_is_an_amount_or_an_error(text in "\\PC{0,40}") {
            let _ = text.parse::<ExactAmount>();
        }
    }
}
