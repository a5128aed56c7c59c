//! Which versions of the protocol this build speaks, and how two builds agree on one.

use crate::error::{Code, Refusal};

/// Versions of `obsidian.verify` this build speaks, newest last.
pub const VERSIONS: &[u32] = &[1, 2];

/// The first version that knows penalties and bias. An older hub would ignore them and answer something else, so a
/// stream that needs them offers no older version.
pub const ADJUSTED_SAMPLING: u32 = 2;

/// Picks the newest version that both sides speak.
///
/// # Errors
/// Refuses with [`Code::UnsupportedVersion`] and says which side to upgrade.
pub fn negotiate(offered: &[u32], spoken: &[u32]) -> Result<u32, Refusal> {
    if let Some(version) = spoken.iter().filter(|version| offered.contains(version)).max() {
        return Ok(*version);
    }
    let pop_is_older = offered.iter().max() < spoken.iter().max();
    let advice = if offered.is_empty() {
        "the POP offered no version: upgrade the POP"
    } else if pop_is_older {
        "upgrade the POP"
    } else {
        "upgrade the hub"
    };
    Err(Refusal::new(
        Code::UnsupportedVersion,
        format!("the POP speaks verify protocol {offered:?}, the hub {spoken:?}: {advice}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::negotiate;
    use crate::error::Code;

    #[test]
    fn newest_common_version_wins() {
        assert_eq!(negotiate(&[1, 2, 3], &[1, 2]).unwrap(), 2);
        assert_eq!(negotiate(&[1], &[1, 2]).unwrap(), 1);
    }

    #[test]
    fn the_older_side_is_named() {
        let refusal = negotiate(&[3], &[1, 2]).unwrap_err();
        assert_eq!(refusal.code, Code::UnsupportedVersion);
        assert!(refusal.message.ends_with("upgrade the hub"), "{}", refusal.message);
        let refusal = negotiate(&[1], &[2]).unwrap_err();
        assert!(refusal.message.ends_with("upgrade the POP"), "{}", refusal.message);
        assert!(negotiate(&[], &[1]).is_err());
    }
}
