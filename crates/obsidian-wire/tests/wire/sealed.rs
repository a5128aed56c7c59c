//! What cannot be sent.

#[test]
fn only_masked_token_ids_can_be_sent() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/unmasked_prompt.rs");
}

#[test]
fn only_a_masked_prompt_can_be_sent_to_an_upstream() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/unmasked_core.rs");
}
