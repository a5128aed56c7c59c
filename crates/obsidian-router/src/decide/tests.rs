//! Prompts with the tier they belong to, and the policy and health matrix.
