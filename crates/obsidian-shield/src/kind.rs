//! The kinds of personal data the shield knows.

use std::fmt;

/// What sort of value a placeholder stands for. Its name is part of the placeholder's frozen spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An e-mail address (RFC 5321, RFC 6531).
    Email,
    /// A telephone number (ITU-T E.164 and common national spellings).
    Phone,
    /// A payment card number (ISO/IEC 7812, Luhn).
    Card,
    /// A bank account (ISO 13616, mod 97).
    Iban,
    /// An IPv4 or IPv6 address (RFC 4291, RFC 5952).
    Ip,
    /// A password, API key, token or private key.
    Secret,
}

impl Kind {
    /// Every kind, in the order of its check-digit weight. The order is frozen.
    pub const ALL: [Self; 6] = [Self::Email, Self::Phone, Self::Card, Self::Iban, Self::Ip, Self::Secret];

    /// The name inside placeholders.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "EMAIL",
            Self::Phone => "PHONE",
            Self::Card => "CARD",
            Self::Iban => "IBAN",
            Self::Ip => "IP",
            Self::Secret => "SECRET",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
