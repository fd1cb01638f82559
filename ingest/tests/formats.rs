//! Which format a row is found to have, and the text it gives.

use crate::Desk;
use curate_ingest::{EmbedText, Format, InputSpec, Role};

/// Detect the format of rows; gives the printed layout and what is embedded of the first row.
fn detect(row: &str) -> (String, String) {
    let desk = Desk::new();
    let source = desk.open_text("x.jsonl", format!("{row}\n")).unwrap();
    let data = source.read(&source.units()[0], None).unwrap();
    (source.layout().to_string(), source.texts(&data).unwrap().remove(0).embed)
}

fn code(row: &str, change: impl FnOnce(&mut InputSpec)) -> &'static str {
    let desk = Desk::new();
    let mut spec = InputSpec::of(desk.put("x.jsonl", format!("{row}\n")));
    change(&mut spec);
    desk.read(&spec).unwrap_err().code()
}

/// Row, printed layout, what is embedded.
const SHAPES: [(&str, &str, &str); 19] = [
    (
        r#"{"instruction":"i","input":"x","output":"o"}"#,
        "alpaca: prompt=instruction+input, response=output (detected)",
        "i\nx",
    ),
    (
        r#"{"instruction":"i","input":"","output":"o","text":"t"}"#,
        "alpaca: prompt=instruction+input, response=output (detected)",
        "i",
    ),
    (
        r#"{"system":"s","instruction":"i","output":"o","history":[["a","b"]]}"#,
        "alpaca: system=system, history=history, prompt=instruction, response=output (detected)",
        "s\na\ni",
    ),
    (
        r#"{"instruction":"i","context":"c","response":"r","category":"k"}"#,
        "instruction-response: prompt=instruction+context, response=response (detected)",
        "i\nc",
    ),
    (
        r#"{"conversations":[{"from":"human","value":"h"},{"from":"gpt","value":"g"}],"tools":"[]"}"#,
        "sharegpt: messages=conversations, tools=tools (detected)",
        "h",
    ),
    (
        r#"{"prompt":"p","prompt_id":"1","messages":[{"role":"user","content":"u"},{"role":"assistant","content":"a"}]}"#,
        "messages: messages=messages (detected)",
        "u",
    ),
    (
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"u"},{"type":"image","url":"z"}]}]}"#,
        "messages: messages=messages (detected)",
        "u",
    ),
    (r#"{"prompt":"p","completion":"c"}"#, "prompt-completion: prompt=prompt, response=completion (detected)", "p"),
    (
        r#"{"prompt":"p","chosen":"c","rejected":"r"}"#,
        "prompt-completion: prompt=prompt, response=chosen (detected)",
        "p",
    ),
    (
        r#"{"prompt":[{"role":"user","content":"p"}],"completion":[{"role":"assistant","content":"c"}]}"#,
        "prompt-completion: prompt=prompt, response=completion (detected)",
        "p",
    ),
    (
        r#"{"question":"q","answer":"a","rationale":"r"}"#,
        "question-answer: prompt=question, response=rationale+answer (detected)",
        "q",
    ),
    (
        r#"{"problem":"q","answer":"a","solution":"s"}"#,
        "question-answer: prompt=problem, response=solution+answer (detected)",
        "q",
    ),
    (r#"{"problem":"q","solution":"s"}"#, "question-answer: prompt=problem, response=solution (detected)", "q"),
    (
        r#"{"system_prompt":"s","question":"q","response":"r"}"#,
        "question-answer: system=system_prompt, prompt=question, response=response (detected)",
        "s\nq",
    ),
    (
        r#"{"data_source":"d","prompt":[{"role":"user","content":"p"}],"ability":"math","reward_model":{"style":"rule","ground_truth":"7"},"extra_info":{"i":1}}"#,
        "verl: prompt=prompt (detected)",
        "p",
    ),
    (r#"{"text":"t","id":3}"#, "text: text=text (detected)", "t"),
    (r#"{"content":"t"}"#, "text: text=content (detected)", "t"),
    (r#"{"question_id":1,"turns":["a","b"]}"#, "prompt-completion: prompt=turns (detected)", "a\nb"),
    (
        r#"{"instruction":"i","instances":[{"input":"x","output":"o"}]}"#,
        "alpaca: prompt=instruction+instances[0].input, response=instances[0].output (detected)",
        "i\nx",
    ),
];

#[test]
fn every_common_shape_is_found() {
    for (row, layout, embed) in SHAPES {
        assert_eq!(detect(row), (layout.to_owned(), embed.to_owned()), "{row}");
    }
}

#[test]
fn ambiguous_and_unknown_columns_are_refused_with_an_example() {
    for row in [
        r#"{"a":"x","b":"y"}"#,
        r#"{"question":"q","answer":"a","prompt":"p","completion":"c"}"#,
        r#"{"messages":[{"role":"user","content":"u"}],"conversations":[{"from":"human","value":"h"}]}"#,
        r#"{"instruction":"i","output":"o","response":"r"}"#,
    ] {
        let desk = Desk::new();
        let error = desk.open_text("x.jsonl", row).err().unwrap();
        assert_eq!(error.code(), "format/unknown", "{row}");
        assert!(error.hint_text().unwrap().contains("--map prompt="), "{row}");
        assert!(error.to_string().contains("columns: "), "{error}");
    }
}

#[test]
fn maps_and_named_formats_overrule() {
    let desk = Desk::new();
    let path = desk.put(
        "x.jsonl",
        r#"{"q":"ask","a":"answer","r":{"g":["deep"]},"question":"Q","answer":"A","prompt":"P","completion":"C"}"#,
    );
    let read = |format: Format, map: &[(&str, &str)]| {
        let map = map.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let spec = InputSpec { format, map, embed_text: EmbedText::PromptResponse, ..InputSpec::of(path.clone()) };
        let source = desk.open(&spec)?;
        Ok::<_, curate_core::Error>((source.layout().to_string(), desk.read(&spec)?.remove(0).embed))
    };
    let (layout, embed) = read(Format::Auto, &[("prompt", "q"), ("response", "r.g[0]+a")]).unwrap();
    assert_eq!(
        (layout.as_str(), embed.as_str()),
        ("prompt-completion: prompt=q, response=r.g[0]+a (mapped)", "ask\ndeep\nanswer")
    );
    assert_eq!(
        read(Format::QuestionAnswer, &[]).unwrap().0,
        "question-answer: prompt=question, response=answer (as given)"
    );
    assert_eq!(read(Format::PromptCompletion, &[("system", "q")]).unwrap().1, "ask\nP\nC");
    assert_eq!(read(Format::Auto, &[("text", "a")]).unwrap().1, "answer");
    assert_eq!(read(Format::Alpaca, &[]).unwrap_err().code(), "format/unknown");
    assert_eq!(read(Format::Auto, &[("promt", "q")]).unwrap_err().code(), "map/unknown-role");
    assert_eq!(read(Format::Auto, &[("prompt", "zz")]).unwrap_err().code(), "map/unknown-column");
    assert_eq!(read(Format::Auto, &[("prompt", "r")]).unwrap_err().code(), "column/type");
}

#[test]
fn conversations_know_roles_weights_tools_and_calls() {
    let desk = Desk::new();
    let rows = [
        r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"},{"role":"assistant","content":"no","loss_weight":0},{"role":"assistant","content":null,"tool_calls":[{"name":"f"}]},{"role":"tool","content":"t"}],"tools":[{"name":"f"}]}"#,
        r#"{"messages":[{"role":"developer","content":[{"type":"text","value":"a"},{"type":"text","value":"b"}]}],"tools":[]}"#,
    ];
    let source = desk.open_text("x.jsonl", rows.join("\n")).unwrap();
    let data = source.read(&source.units()[0], None).unwrap();
    let conversations = source.layout().conversations(&data.batch).unwrap();
    let turns: Vec<(Role, &str, bool)> =
        conversations[0].turns.iter().map(|t| (t.role, t.text.as_str(), t.trained)).collect();
    assert_eq!(
        turns,
        [
            (Role::System, "s", false),
            (Role::User, "u", false),
            (Role::Assistant, "no", false),
            (Role::Assistant, r#"[{"name":"f"}]"#, true),
            (Role::Tool, "t", false)
        ]
    );
    assert_eq!(conversations[0].tools.as_deref(), Some(r#"[{"name":"f"}]"#));
    assert_eq!(conversations[1].turns[0].text, "ab");
}

#[test]
fn chat_lists_may_be_json_text() {
    let desk = Desk::new();
    let source = desk
        .open_text("x.csv", "id,messages\n1,\"[{\"\"role\"\":\"\"user\"\",\"\"content\"\":\"\"hi\"\"}]\"\n")
        .unwrap();
    let data = source.read(&source.units()[0], None).unwrap();
    assert_eq!(source.texts(&data).unwrap()[0].embed, "hi");
    assert_eq!(code(r#"{"messages":"hello"}"#, |_| ()), "messages/shape");
    assert_eq!(code(r#"{"messages":[{"role":"king","content":"u"}]}"#, |_| ()), "messages/role");
    assert_eq!(code(r#"{"messages":[{"role":"user","content":1}]}"#, |_| ()), "messages/content");
}

#[test]
fn rendered_rows_count_their_characters() {
    let desk = Desk::new();
    let path = desk.put("x.jsonl", "{\"instruction\":\"äö\",\"output\":\"xyz\"}\n");
    let row = desk.read(&InputSpec::of(path.clone())).unwrap().remove(0);
    assert_eq!(
        (row.full.as_str(), row.chars, row.prompt_chars, row.response_chars, row.turns),
        ("äö\nxyz", 6, 2, 3, 2)
    );
    let template = desk.put("t.jinja", "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}");
    let row = desk.read(&InputSpec { chat_template: Some(template), ..InputSpec::of(path) }).unwrap().remove(0);
    assert_eq!((row.embed.as_str(), row.full.as_str()), ("äö", "<user>äö<assistant>xyz"));
}

#[test]
fn a_map_overrules_only_what_it_names() {
    let desk = Desk::new();
    let layout = |row: &str, map: &[(&str, &str)]| {
        let map = map.iter().map(|(role, column)| ((*role).to_owned(), (*column).to_owned())).collect();
        let spec = InputSpec { map, ..InputSpec::of(desk.put("x.jsonl", row)) };
        desk.open(&spec).unwrap().layout().to_string()
    };
    let alpaca = r#"{"instruction":"a","input":"b","output":"c","system":"s","other":"o"}"#;
    let all = "alpaca: system=system, prompt=instruction+input, response=output (mapped)";
    assert_eq!(layout(alpaca, &[("prompt", "instruction")]), all);
    assert_eq!(
        layout(alpaca, &[("prompt", "other")]),
        "prompt-completion: system=system, prompt=other, response=output (mapped)"
    );
    assert_eq!(
        layout(alpaca, &[("prompt", "instruction"), ("input", "other")]),
        "alpaca: system=system, prompt=instruction+other, response=output (mapped)"
    );
    assert_eq!(
        layout(r#"{"q":"a","answer":"b"}"#, &[("prompt", "q")]),
        "prompt-completion: prompt=q, response=answer (mapped)"
    );
    assert_eq!(layout(r#"{"answer":"b"}"#, &[("prompt", "answer")]), "prompt-completion: prompt=answer (mapped)");
    assert_eq!(layout(r#"{"query":"a","reply":"b"}"#, &[]), "question-answer: prompt=query, response=reply (detected)");
}

#[test]
fn files_that_make_two_formats_together_are_to_be_given_one_at_a_time() {
    let desk = Desk::new();
    let alpaca = desk.put("a.jsonl", "{\"instruction\":\"a\",\"output\":\"b\"}\n");
    let other = desk.put("q.jsonl", "{\"question\":\"a\",\"answer\":\"b\"}\n");
    let error = desk.open(&InputSpec { paths: vec![alpaca, other], ..InputSpec::default() }).err().unwrap();
    assert_eq!(error.code(), "format/unknown");
    assert!(error.hint_text().unwrap().contains("give them one at a time"), "{error}");
}
