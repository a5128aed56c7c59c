//! What the models of a POP and its hub cannot do for a request, so that only an upstream can take it. Pure.

use obsidian_types::{ChatRequest, Role};

/// Something in a request that needs an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// The field that asks for it.
    pub(crate) param: &'static str,
    /// Why no local model can, as part of a sentence.
    pub(crate) why: &'static str,
}

const NO_TOOLS: &str = "the chat template of no local model takes tools";

/// The first thing in `request` that only an upstream can do.
pub(crate) fn need_of(request: &ChatRequest) -> Option<Need> {
    if !request.tools.is_empty() {
        return Some(Need { param: "tools", why: NO_TOOLS });
    }
    let messages = request.input.messages();
    if messages.iter().any(|message| message.role == Role::Tool || !message.tool_calls.is_empty()) {
        return Some(Need { param: "messages", why: NO_TOOLS });
    }
    let named = messages.iter().any(|message| message.name.is_some());
    named.then_some(Need { param: "messages", why: "the chat template of no local model shows the names of speakers" })
}

#[cfg(test)]
mod tests {
    use obsidian_types::{Input, Message, Role, Tool, ToolCall};

    use super::need_of;
    use crate::fixtures::request;

    #[test]
    fn tools_and_names_need_an_upstream() {
        let mut asked = request("hi");
        assert_eq!(need_of(&asked), None);
        asked.tools = vec![Tool { name: "f".into(), description: None, parameters: "{}".into(), strict: None }];
        assert_eq!(need_of(&asked).map(|need| need.param), Some("tools"));
        asked.tools.clear();
        let call = ToolCall { id: "1".into(), name: "f".into(), arguments: "{}".into() };
        for message in [
            Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") },
            Message { tool_call_id: Some("1".into()), ..Message::new(Role::Tool, "x") },
            Message { name: Some("bob".into()), ..Message::new(Role::User, "x") },
        ] {
            asked.input = Input::Chat(vec![message]);
            assert_eq!(need_of(&asked).map(|need| need.param), Some("messages"));
        }
    }
}
