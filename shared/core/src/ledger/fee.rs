//! The fee's arithmetic: integers only, in 128 bits, rounded once.
//!
//! A basis is a sum of prices, exact, as an integer with a number of decimal digits: prices can have more digits
//! than the currency's minor unit, and only the fee is rounded.

use crate::cbor_enum;

use super::LedgerError;

/// Basis points in the whole: 500 of them are 5 %.
pub const BASIS_POINTS: u32 = 10_000;
/// The rate where no schedule says otherwise, in basis points.
pub const DEFAULT_RATE_BPS: u32 = 500;
/// The most decimal digits of a basis (what a parsed decimal can have).
pub const MAX_SCALE: u32 = 28;

cbor_enum! {
    /// How a fee schedule rounds to the minor unit.
    #[derive(Default)]
    pub enum Rounding {
        /// A half goes away from zero.
        #[default]
        HalfAwayFromZero = 1, "half-away-from-zero";
        /// A half goes to the even neighbour.
        HalfEven = 2, "half-even";
        /// What is less than a unit is dropped.
        TowardZero = 3, "toward-zero";
    }
}

/// `numerator / denominator`, rounded.
///
/// # Errors
/// [`LedgerError::OutOfRange`] if the denominator is not positive.
pub fn div_round(numerator: i128, denominator: i128, rounding: Rounding) -> Result<i128, LedgerError> {
    const RANGE: LedgerError = LedgerError::OutOfRange("quotient");
    if denominator <= 0 {
        return Err(RANGE);
    }
    let quotient = numerator.checked_div(denominator).ok_or(RANGE)?;
    let rest = numerator.checked_rem(denominator).ok_or(RANGE)?.unsigned_abs();
    // The remainder is below the divisor, so that neither side of this comparison overflows.
    let to_next = denominator.unsigned_abs().checked_sub(rest).ok_or(RANGE)?;
    let away = match rounding {
        Rounding::HalfAwayFromZero => rest >= to_next,
        Rounding::HalfEven => rest > to_next || (rest == to_next && quotient % 2 != 0),
        Rounding::TowardZero => false,
    };
    if away { quotient.checked_add(numerator.signum()).ok_or(RANGE) } else { Ok(quotient) }
}

/// The fee in minor units: `basis × 10^-scale` of a currency with `exponent` digits, times `rate_bps` basis points,
/// rounded once, half away from zero.
///
/// # Errors
/// [`LedgerError::OutOfRange`] for a negative basis, a rate above the whole, more than [`MAX_SCALE`] digits, or a fee
/// that does not fit 64 bits.
pub fn fee(basis: i128, scale: u32, rate_bps: u32, exponent: u8) -> Result<i64, LedgerError> {
    fee_rounded(basis, scale, rate_bps, exponent, Rounding::default())
}

/// [`fee`] with the schedule's rounding.
///
/// # Errors
/// As [`fee`].
pub fn fee_rounded(
    basis: i128,
    scale: u32,
    rate_bps: u32,
    exponent: u8,
    rounding: Rounding,
) -> Result<i64, LedgerError> {
    if basis < 0 {
        return Err(LedgerError::OutOfRange("basis"));
    }
    if rate_bps > BASIS_POINTS {
        return Err(LedgerError::OutOfRange("rate"));
    }
    if scale > MAX_SCALE {
        return Err(LedgerError::OutOfRange("scale"));
    }
    const RANGE: LedgerError = LedgerError::OutOfRange("fee");
    // basis/10^scale × bps/10^4 × 10^exponent, as one fraction with the common power of ten taken out.
    let below = scale.checked_add(BASIS_POINTS.ilog10()).ok_or(RANGE)?;
    let common = below.min(u32::from(exponent));
    let factor = ten_to(u32::from(exponent).checked_sub(common).ok_or(RANGE)?)?;
    let denominator = ten_to(below.checked_sub(common).ok_or(RANGE)?)?;
    let numerator = basis
        .checked_mul(i128::from(rate_bps))
        .and_then(|product| product.checked_mul(factor))
        .ok_or(RANGE)?;
    i64::try_from(div_round(numerator, denominator, rounding)?).map_err(|_| RANGE)
}

fn ten_to(power: u32) -> Result<i128, LedgerError> {
    10_i128.checked_pow(power).ok_or(LedgerError::OutOfRange("scale"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounds_once_half_away_from_zero() {
        for (basis, scale, bps, exponent, minor) in [
            (219_774, 2, 500, 2, 10_989), // 2197.74 → 109.887
            (10, 2, 500, 2, 1),           // 0.10 → 0.005, a half
            (9, 2, 500, 2, 0),
            (30, 2, 500, 2, 2),       // 0.015
            (100_999, 4, 500, 2, 50), // 10.0999 → 0.504995: not 0.505 first
            (10, 0, 500, 0, 1),       // 0.5 yen
            (9, 0, 500, 0, 0),
            (1, 0, 500, 4, 500),
            (123_456, 3, 500, 3, 6_173), // 123.456 dinar → 6.1728
            (0, 0, 500, 2, 0),
            (5_000, 2, 0, 2, 0),
            (1, 0, 10_000, 4, 10_000),
            (7_i128.pow(33), 28, 500, 2, 4),
        ] {
            let expected = (basis, scale, minor);
            assert_eq!(fee(basis, scale, bps, exponent).map(|got| (basis, scale, got)), Ok(expected));
        }
    }

    #[test]
    fn other_roundings() {
        for (numerator, away, even, zero) in
            [(5, 1, 0, 0), (15, 2, 2, 1), (25, 3, 2, 2), (-15, -2, -2, -1), (-5, -1, 0, 0), (14, 1, 1, 1)]
        {
            for (rounding, wanted) in
                [(Rounding::HalfAwayFromZero, away), (Rounding::HalfEven, even), (Rounding::TowardZero, zero)]
            {
                assert_eq!(div_round(numerator, 10, rounding), Ok(wanted), "{numerator} {rounding}");
            }
        }
    }

    #[test]
    fn refuses_what_is_out_of_range() {
        for (basis, scale, bps, what) in [
            (-1, 0, 500, "basis"),
            (1, 29, 500, "scale"),
            (1, 0, 10_001, "rate"),
            (i128::MAX, 0, 500, "fee"),
            (i128::from(i64::MAX), 0, 10_000, "fee"),
        ] {
            assert_eq!(fee(basis, scale, bps, 2), Err(LedgerError::OutOfRange(what)));
        }
        assert!(div_round(1, 0, Rounding::default()).is_err());
        assert!(div_round(1, i128::MAX, Rounding::default()) == Ok(0));
        assert!(div_round(i128::MAX, i128::MAX, Rounding::default()) == Ok(1));
        assert!(div_round(i128::MIN, 1, Rounding::default()) == Ok(i128::MIN));
    }

    proptest! {
        #[test]
        fn is_within_half_a_unit(basis in 0_i128..1_000_000_000_000_000, scale in 0_u32..6, bps in 0_u32..=10_000) {
            let minor = i128::from(fee(basis, scale, bps, 2).unwrap());
            let unit = 10_i128.pow(scale + 2);
            let error = (minor * unit - basis * i128::from(bps)).abs();
            prop_assert!(error * 2 <= unit);
        }

        #[test]
        fn writing_the_basis_with_more_digits_changes_nothing(basis in 0_i128..1_000_000_000, scale in 0_u32..4, more in 0_u32..8) {
            prop_assert_eq!(fee(basis, scale, 500, 2), fee(basis * 10_i128.pow(more), scale + more, 500, 2));
        }
    }
}
