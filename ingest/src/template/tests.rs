//! Templates against the text Hugging Face gives.

use super::*;
use crate::detect::Role;
use proptest::prelude::*;

fn chat(turns: &[(Role, &str)]) -> Conversation {
    Conversation {
        turns: turns.iter().map(|(role, text)| Turn::new(*role, *text)).collect(),
        ..Conversation::default()
    }
}

fn hello() -> Conversation {
    chat(&[
        (Role::System, "Be kind."),
        (Role::User, "Hi"),
        (Role::Assistant, "Hello!"),
        (Role::User, "Bye"),
        (Role::Assistant, "Bye!"),
    ])
}

fn trained(rendered: &RenderedChat) -> Vec<&str> {
    rendered.trained.iter().map(|range| &rendered.text[range.clone()]).collect()
}

const LLAMA: &str = "{{- bos_token }}\n{%- for message in messages %}\n    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n";

#[test]
fn chatml_marks_the_answers_with_their_end() {
    let rendered = ChatTemplate::chatml().unwrap().render(&hello(), false).unwrap();
    assert_eq!(
        rendered.text,
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nBye!<|im_end|>\n"
    );
    assert_eq!(trained(&rendered), ["Hello!<|im_end|>", "Bye!<|im_end|>"]);
    let prompt = ChatTemplate::chatml().unwrap().render(&chat(&[(Role::User, "Hi")]), true).unwrap();
    assert!(prompt.text.ends_with("<|im_start|>assistant\n"));
    assert!(prompt.trained.is_empty());
}

#[test]
fn templates_without_marks_are_masked_by_growth() {
    let dir = tempfile::tempdir().unwrap();
    let config = serde_json::json!({ "chat_template": LLAMA, "bos_token": { "content": "<|begin|>" } });
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    for path in [dir.path().to_owned(), dir.path().join("tokenizer_config.json")] {
        let rendered = ChatTemplate::load(&path).unwrap().render(&hello(), false).unwrap();
        assert!(rendered.text.starts_with("<|begin|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"));
        assert_eq!(trained(&rendered), ["Hello!<|eot_id|>", "Bye!<|eot_id|>"]);
    }
    let mut some = hello();
    some.turns[2].trained = false;
    let rendered = ChatTemplate::load(dir.path()).unwrap().render(&some, false).unwrap();
    assert_eq!(trained(&rendered), ["Bye!<|eot_id|>"]);
    assert_eq!(trained(&ChatTemplate::chatml().unwrap().render(&some, false).unwrap()), ["Bye!<|im_end|>"]);
}

#[test]
fn turns_that_do_not_grow_are_found_by_their_text() {
    let source =
        "{% for m in messages %}{% if loop.last %}[{{ m.content }}]!{% else %}{{ m.content }};{% endif %}{% endfor %}";
    let rendered = ChatTemplate::parse("odd", source).unwrap().render(&hello(), false).unwrap();
    assert_eq!(rendered.text, "Be kind.;Hi;Hello!;Bye;[Bye!]!");
    assert_eq!(trained(&rendered)[0], "Hello!");
    let lost = ChatTemplate::parse("lost", "{{ messages | length }}").unwrap().render(&hello(), false);
    assert_eq!(lost.unwrap_err().code(), "template/mask");
}

#[test]
fn generation_tags_keep_white_space_control() {
    let source = "{% for m in messages %}\n  {%- if m.role == 'assistant' -%}\n  A:\n  {%- generation -%}\n  {{ m.content }}<e>\n  {%- endgeneration %}\n{%- else %}\nU:{{ m.content }}\n{% endif %}\n{% endfor %}\n";
    let rendered = ChatTemplate::parse("g", source)
        .unwrap()
        .render(&chat(&[(Role::User, "q"), (Role::Assistant, "a")]), false)
        .unwrap();
    assert_eq!(rendered.text, "U:q\nA:a<e>");
    assert_eq!(trained(&rendered), ["a<e>"]);
}

#[test]
fn python_helpers_behave_like_python() {
    let mut with_tools = chat(&[(Role::User, "ü\"")]);
    with_tools.tools = Some(r#"[{"name":"f","args":{"b":1,"a":[true,null,1.5]}}]"#.into());
    let render = |source: &str| ChatTemplate::parse("t", source).unwrap().render(&with_tools, false).unwrap().text;
    assert_eq!(render("{{ tools | tojson }}"), r#"[{"name": "f", "args": {"b": 1, "a": [true, null, 1.5]}}]"#);
    assert_eq!(render("{{ messages[0].content | tojson }}"), "\"ü\\\"\"");
    assert_eq!(
        render("{{ tools[0].args | tojson(indent=2) }}"),
        "{\n  \"b\": 1,\n  \"a\": [\n    true,\n    null,\n    1.5\n  ]\n}"
    );
    assert_eq!(render("{{ strftime_now('%d %b %Y, %A %H:%M 100%%') }}"), "26 Jul 2024, Friday 00:00 100%");
    assert_eq!(render("{{ messages[0].content.strip().split('\"')[0].upper() }}"), "Ü");
    assert_eq!(render("{%- if tools is defined and messages[0]['role'] == 'user' %}yes{% endif %}"), "yes");
}

#[test]
fn refusals_are_typed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bad.jinja"), "{% if %}").unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), "{}").unwrap();
    let code = |path: &Path| ChatTemplate::load(path).unwrap_err().code();
    assert_eq!(code(&dir.path().join("bad.jinja")), "template/syntax");
    assert_eq!(ChatTemplate::parse("half", "{%}").unwrap_err().code(), "template/syntax");
    assert_eq!(code(dir.path()), "template/missing");
    assert_eq!(code(&dir.path().join("none.jinja")), "input/not-found");
    let picky = ChatTemplate::parse("picky", "{{ raise_exception('roles must alternate') }}").unwrap();
    let error = picky.render(&hello(), false).unwrap_err();
    assert_eq!(error.code(), "template/render");
    assert!(error.to_string().contains("roles must alternate"), "{error}");
    let plain = Conversation { plain: true, ..chat(&[(Role::Assistant, "doc")]) };
    assert_eq!(
        picky.render(&plain, false).unwrap(),
        RenderedChat { text: "doc".into(), trained: std::iter::once(0..3).collect() }
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_template_panics(source in "[{}%a-z .\\-+'|()\\[\\]\n]{0,60}", tag in prop::sample::select(vec!["", "{%- generation %}", "{% endgeneration -%}", "{%", "{%é%}", "{%-%}"])) {
        if let Ok(template) = ChatTemplate::parse("fuzz", &format!("{source}{tag}{source}")) {
            let _ = template.render(&hello(), true);
        }
    }

    #[test]
    fn ranges_lie_in_the_text(texts in prop::collection::vec(any::<String>(), 0..5)) {
        let turns: Vec<(Role, &str)> = texts.iter().enumerate().map(|(i, t)| (if i % 2 == 0 { Role::User } else { Role::Assistant }, t.as_str())).collect();
        for template in [ChatTemplate::chatml().unwrap(), ChatTemplate::parse("l", LLAMA).unwrap()] {
            if let Ok(rendered) = template.render(&chat(&turns), false) {
                for range in &rendered.trained {
                    prop_assert!(rendered.text.get(range.clone()).is_some());
                }
            }
        }
    }
}
