//! Money: integer minor units in one ISO 4217 currency. Decimals are parsed and printed, never added up; every
//! operation is checked; there is no floating point.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;

/// What can be wrong with an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not three upper-case letters that ISO 4217 lists for payment.
    #[error("unknown currency: {0:?}")]
    UnknownCurrency(String),
    /// Two amounts of different currencies met.
    #[error("amounts in {0} and {1} cannot be added up")]
    MixedCurrencies(Currency, Currency),
    /// The text is not a decimal number.
    #[error("not a decimal amount")]
    NotADecimal,
    /// The value does not fit.
    #[error("amount out of range")]
    OutOfRange,
}

/// An ISO 4217 currency with its exponent (digits after the decimal point).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: [u8; 3],
    exponent: u8,
}

/// Currencies in use for payment whose exponent is not 2 (ISO 4217 list one).
const EXPONENTS: &[(&str, u8)] = &[
    ("BHD", 3),
    ("BIF", 0),
    ("CLF", 4),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("IQD", 3),
    ("ISK", 0),
    ("JOD", 3),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("PYG", 0),
    ("RWF", 0),
    ("TND", 3),
    ("UGX", 0),
    ("UYI", 0),
    ("UYW", 4),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
];

/// Currencies in use for payment with two digits after the point (ISO 4217 list one).
const TWO_DIGITS: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD \
CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR \
ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN \
NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC \
SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG";

impl Currency {
    /// The ISO 4217 code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.code).unwrap_or("XXX")
    }

    /// Digits after the decimal point.
    #[must_use]
    pub const fn exponent(&self) -> u8 {
        self.exponent
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let unknown = || MoneyError::UnknownCurrency(text.chars().take(8).collect());
        let code = <[u8; 3]>::try_from(text.as_bytes()).map_err(|_| unknown())?;
        if let Some((_, exponent)) = EXPONENTS.iter().find(|(known, _)| *known == text) {
            return Ok(Self { code, exponent: *exponent });
        }
        if TWO_DIGITS.split(' ').any(|known| known == text) {
            return Ok(Self { code, exponent: 2 });
        }
        Err(unknown())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount of money: minor units (for USD: cents) of one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Amount {
    minor: i64,
    currency: Currency,
}

impl Amount {
    /// From minor units.
    #[must_use]
    pub const fn from_minor(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Nothing, in `currency`.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self::from_minor(0, currency)
    }

    /// Minor units.
    #[must_use]
    pub const fn minor(&self) -> i64 {
        self.minor
    }

    /// The currency.
    #[must_use]
    pub const fn currency(&self) -> Currency {
        self.currency
    }

    /// From a decimal, rounded half away from zero to the currency's minor unit.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`] if it does not fit 64 bits.
    pub fn from_decimal(value: Decimal, currency: Currency) -> Result<Self, MoneyError> {
        let exponent = u32::from(currency.exponent);
        let mut rounded =
            value.round_dp_with_strategy(exponent, rust_decimal::RoundingStrategy::MidpointAwayFromZero);
        rounded.rescale(exponent);
        if rounded.scale() != exponent {
            return Err(MoneyError::OutOfRange);
        }
        let minor = i64::try_from(rounded.mantissa()).map_err(|_| MoneyError::OutOfRange)?;
        Ok(Self { minor, currency })
    }

    /// The sum of two amounts of one currency.
    ///
    /// # Errors
    /// [`MoneyError::MixedCurrencies`], [`MoneyError::OutOfRange`].
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::MixedCurrencies(self.currency, other.currency));
        }
        let minor = self.minor.checked_add(other.minor).ok_or(MoneyError::OutOfRange)?;
        Ok(Self { minor, currency: self.currency })
    }

    /// The amount as a decimal text with exactly the currency's digits, without the currency: `1098.87`.
    #[must_use]
    pub fn to_decimal_string(&self) -> String {
        let scale = u32::from(self.currency.exponent);
        Decimal::from_i128_with_scale(i128::from(self.minor), scale).to_string()
    }
}

/// Reads `12.50 USD`.
impl FromStr for Amount {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (number, currency) = text.split_once(' ').ok_or(MoneyError::NotADecimal)?;
        let currency: Currency = currency.parse()?;
        let value = Decimal::from_str_exact(number).map_err(|_| MoneyError::NotADecimal)?;
        if value.normalize().scale() > u32::from(currency.exponent) {
            return Err(MoneyError::OutOfRange);
        }
        Self::from_decimal(value, currency)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.to_decimal_string(), self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_with_the_currencys_digits() {
        for (minor, code, text) in [
            (109_887, "USD", "1098.87 USD"),
            (5, "JPY", "5 JPY"),
            (-1, "KWD", "-0.001 KWD"),
            (0, "EUR", "0.00 EUR"),
        ] {
            let amount = Amount::from_minor(minor, code.parse().unwrap());
            assert_eq!(amount.to_string(), text);
            assert_eq!(text.parse::<Amount>(), Ok(amount));
        }
    }

    #[test]
    fn refuses_what_is_no_amount() {
        for bad in
            ["", "1", "1 XXX", "1e3 USD", "0.005 USD", "NaN EUR", "99999999999999999999 USD", "1.5 JPY"]
        {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
    }
}
