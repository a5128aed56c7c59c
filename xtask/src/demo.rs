//! placeholder
pub(crate) fn run(_once: bool) -> anyhow::Result<()> {
    Ok(())
}
