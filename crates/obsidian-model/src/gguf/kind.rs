//! The tensor type table: how elements are packed.

/// How a tensor's elements are stored. The table is where a new format is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// Blocks of 32 signed bytes under one half-precision scale.
    Q8_0,
}

struct Row {
    kind: TensorKind,
    code: u32,
    elements: u64,
    bytes: u64,
}

const TABLE: &[Row] = &[
    Row { kind: TensorKind::F32, code: 0, elements: 1, bytes: 4 },
    Row { kind: TensorKind::F16, code: 1, elements: 1, bytes: 2 },
    Row { kind: TensorKind::Q8_0, code: 8, elements: 32, bytes: 34 },
];

impl TensorKind {
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
    use super::{TABLE, TensorKind};

    #[test]
    fn the_table_is_in_order() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.kind as usize, index);
            assert_eq!(TensorKind::from_code(row.kind.code()), Ok(row.kind));
        }
        assert_eq!(TensorKind::from_code(31), Err(31));
    }
}
