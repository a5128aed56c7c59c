//! What cannot be sent.

#[test]
fn only_masked_token_ids_can_be_sent() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/unmasked_prompt.rs");
}
