//! The tensor type table: how elements are packed.

/// How a tensor's elements are stored. The table is where a new format is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of IEEE single precision.
    BF16,
    /// Blocks of 32 signed bytes under one half-precision scale.
    Q8_0,
    /// Blocks of 32 four-bit numbers, less 8, under one half-precision scale.
    Q4_0,
    /// Blocks of 32 five-bit numbers, less 16, under one half-precision scale.
    Q5_0,
    /// Blocks of 256 four-bit numbers; each 32 have a six-bit scale and a six-bit minimum.
    Q4K,
    /// Blocks of 256 six-bit numbers, less 32; each 16 have an eight-bit scale.
    Q6K,
}

struct Row {
    kind: TensorKind,
    name: &'static str,
    code: u32,
    elements: u64,
    bytes: u64,
}

const TABLE: &[Row] = &[
    Row { kind: TensorKind::F32, name: "F32", code: 0, elements: 1, bytes: 4 },
    Row { kind: TensorKind::F16, name: "F16", code: 1, elements: 1, bytes: 2 },
    Row { kind: TensorKind::BF16, name: "BF16", code: 30, elements: 1, bytes: 2 },
    Row { kind: TensorKind::Q8_0, name: "Q8_0", code: 8, elements: 32, bytes: 34 },
    Row { kind: TensorKind::Q4_0, name: "Q4_0", code: 2, elements: 32, bytes: 18 },
    Row { kind: TensorKind::Q5_0, name: "Q5_0", code: 6, elements: 32, bytes: 22 },
    Row { kind: TensorKind::Q4K, name: "Q4_K", code: 12, elements: 256, bytes: 144 },
    Row { kind: TensorKind::Q6K, name: "Q6_K", code: 14, elements: 256, bytes: 210 },
];

/// Types of the file format that are not read, by number: so that an error can name them.
const OTHERS: &[(u32, &str)] = &[
    (3, "Q4_1"),
    (7, "Q5_1"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (13, "Q5_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

impl TensorKind {
    /// Every kind there is.
    pub const ALL: [Self; 8] =
        [Self::F32, Self::F16, Self::BF16, Self::Q8_0, Self::Q4_0, Self::Q5_0, Self::Q4K, Self::Q6K];

    /// The name that the file format's documents use.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What to say about a number that is not in the table.
    pub(super) fn unsupported(code: u32) -> String {
        let name = OTHERS.iter().find(|(known, _)| *known == code);
        let name = name.map_or_else(|| format!("type {code}"), |(_, name)| format!("type {code} ({name})"));
        let supported: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
        format!("{name}; supported are {}", supported.join(", "))
    }

    /// The kind with the file format's number `code`, or that number if it is not in the table.
    pub fn from_code(code: u32) -> Result<Self, u32> {
        TABLE.iter().find(|row| row.code == code).map(|row| row.kind).ok_or(code)
    }

    /// The file format's number.
    pub fn code(self) -> u32 {
        self.row().code
    }

    /// Elements in one block.
    pub fn block_elements(self) -> u64 {
        self.row().elements
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> u64 {
        self.row().bytes
    }

    fn row(self) -> &'static Row {
        // The enumeration is the table's index, which `the_table_is_in_order` checks.
        &TABLE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::{OTHERS, TABLE, TensorKind};

    #[test]
    fn the_table_is_in_order() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.kind as usize, index);
            assert_eq!(TensorKind::ALL[index], row.kind);
            assert_eq!(TensorKind::from_code(row.kind.code()), Ok(row.kind));
            assert!(OTHERS.iter().all(|(code, _)| *code != row.code));
        }
        assert_eq!(TensorKind::ALL.len(), TABLE.len());
        assert_eq!(TensorKind::from_code(31), Err(31));
        assert!(TensorKind::unsupported(13).starts_with("type 13 (Q5_K); supported are F32, F16"));
    }
}
