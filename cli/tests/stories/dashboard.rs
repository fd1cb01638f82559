//! The dashboard in a real browser: weights move, people pause and steer, a hundred thousand rows are drawn, a row's text stays text.

use crate::browser::Browser;
use crate::live::Live;
use crate::story::Story;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Text that would run if it were taken for markup.
const HOSTILE: &str = "<img src=x onerror=\"window.taken=1\"><script>window.taken=1</script>";

fn start(story: &Story) -> Live {
    Live::start(story, &["--log", "json"])
}

fn url(server: &Live, view: &str) -> String {
    format!("http://{}/#/{view}", server.address)
}

/// Steps of a trainer that finds rows of even clusters hard.
fn train(server: &Live, steps: std::ops::RangeInclusive<u64>) {
    server.train(steps, "loss", |row| if row["group"].as_u64().unwrap_or(0).is_multiple_of(2) { 3.0 } else { 0.2 });
}

/// Rows on four subjects, every one of them hostile.
fn rows(count: usize, more: &str) -> String {
    let subjects =
        ["sql join table query", "poem verse moon sonnet", "oven flour butter sugar", "court contract clause party"];
    let mut text = String::new();
    for i in 0..count {
        let line = json!({"instruction": format!("Tell {} number {i} {more}", subjects[i % 4]), "output": subjects[i % 4],
            "source": (["alpaca", "dolly"][i % 2]), "quality": (i % 100) as f64 / 100.0});
        writeln!(text, "{line}").expect("a string takes all");
    }
    text
}

/// The cells of a column of the table of clusters, by name.
const WEIGHTS: &str = "Object.fromEntries([...document.querySelectorAll('.clusters tbody tr')].map((row) => [row.querySelector('a').hash, row.children[1].textContent]))";

#[test]
fn weights_are_seen_to_move_and_are_changed_by_hand() {
    let Some(browser) = Browser::start() else { return };
    let story = Story::new();
    story.file("rows.jsonl", rows(1200, HOSTILE));
    let server = start(&story);
    browser.size(1280, 900);
    browser.open(&url(&server, ""));
    browser.wait(
        "what to do first",
        "[...document.querySelectorAll('pre')].some((own) => own.textContent.includes('/v1/sessions'))",
    );
    let plan = json!({"input": {"paths": ["rows.jsonl"]}, "seed": 3, "online": {"use": "kmeans-refine", "k": 4}});
    server.done("/v1/sessions", &json!({"id": "run", "batch": 16, "plan": plan}));
    train(&server, 1..=3);
    browser.wait("the session in the list", "document.querySelector('a[href=\"#/sessions/run\"]') !== null");

    browser.open(&url(&server, "sessions/run"));
    browser.wait("a chart", "document.querySelector('.uplot canvas') !== null");
    browser.wait(
        "words of the clusters",
        "/sql|poem|oven|court/.test(document.querySelector('.clusters tbody')?.textContent)",
    );
    let before = browser.js(&format!("return {WEIGHTS}"));
    train(&server, 4..=12);
    let moved = format!("JSON.stringify({WEIGHTS}) !== {} && {WEIGHTS}", json!(before.to_string()));
    let after = browser.wait("other weights", &moved);
    let shares: Vec<f64> = after
        .as_object()
        .expect("a table")
        .values()
        .filter_map(|own| own.as_str()?.trim_end_matches([' ', '%']).parse().ok())
        .collect();
    assert!(shares.len() == 4 && (shares.iter().sum::<f64>() - 100.0).abs() < 2.0, "{after}");
    browser.wait("step 12", "document.querySelector('.facts').textContent.includes('step 12')");

    browser.click("#pause");
    browser.wait("the word paused", "document.querySelector('.session-head .chip').textContent === 'paused'");
    let held = server.post("/v1/sessions/run/propose", &json!({"step": 13, "wait_s": 0}));
    assert_eq!((held.0, &held.1["code"]), (503, &json!("session/paused")));
    browser.click("#pause");
    browser.wait("the word ready", "document.querySelector('.session-head .chip').textContent === 'ready'");

    browser.click("[data-key=\"steer-1\"]");
    browser.wait("a question", "document.querySelector('dialog input') !== null");
    browser.js(
        "document.querySelector('dialog input').value = '5'; document.querySelector('dialog form').requestSubmit()",
    );
    browser.wait("the mark", "document.querySelector('.marks').textContent.includes('cluster 1 ×5')");
    let steers = server.get("/v1/sessions/run/state?words=true")["steers"].clone();
    assert_eq!(
        (steers.as_array().map(Vec::len), &steers[0]["group"], &steers[0]["factor"]),
        (Some(1), &json!(1), &json!(5.0))
    );

    // A chart is read by keyboard, and as a table.
    browser.js("const stage = document.querySelector('.stage'); stage.focus(); stage.dispatchEvent(new KeyboardEvent('keydown', { key: 'Home', bubbles: true }))");
    browser.wait("values in words", "document.querySelector('.stage [role=status]').textContent.startsWith('step 1:')");
    browser.js("[...document.querySelectorAll('button')].find((own) => own.textContent === 'Table').click()");
    browser.wait(
        "a table of steps",
        "document.querySelectorAll('section.card')[0].querySelectorAll('tbody tr').length >= 12",
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn texts_of_rows_stay_texts_and_nothing_is_wider_than_a_telephone() {
    let Some(browser) = Browser::start() else { return };
    let story = Story::new();
    story.file("rows.jsonl", rows(600, HOSTILE));
    let server = start(&story);
    let plan = json!({"input": {"paths": ["rows.jsonl"]}, "seed": 3, "online": {"use": "kmeans-refine", "k": 4}});
    server.done("/v1/sessions", &json!({"id": "run", "batch": 8, "plan": plan}));
    train(&server, 1..=4);
    browser.size(390, 844);
    let views = [
        ("", "document.querySelector('a[href=\"#/sessions/run\"]') !== null"),
        ("sessions/run/weights", "document.querySelector('.clusters tbody tr') !== null"),
        ("sessions/run/signals", "document.querySelector('.uplot') !== null"),
        ("sessions/run/difficulty", "document.querySelector('.card') !== null"),
        ("sessions/run/map", "document.querySelector('.dots[data-points=\"600\"]') !== null"),
        (
            "sessions/run/cluster/0",
            "[...document.querySelectorAll('.example pre')].some((own) => own.textContent.includes('<img'))",
        ),
        ("sessions/run/details", "document.querySelector('.facts-list') !== null"),
        ("sessions/none", "document.querySelector('.card.bad')?.textContent.includes('session/unknown')"),
        ("jobs/none", "document.querySelector('.card.bad')?.textContent.includes('job/unknown')"),
    ];
    for scheme in ["light", "dark"] {
        browser.scheme(scheme);
        for (view, there) in &views {
            browser.open(&url(&server, view));
            browser.wait(view, there);
            let wider =
                browser.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert_eq!(wider, json!(0), "{view} scrolls sideways");
            assert_eq!(
                browser.js("return document.querySelectorAll('main img, main script').length"),
                json!(0),
                "{view}"
            );
            assert_eq!(browser.js("return window.taken ?? null"), Value::Null, "{view} ran a row's text");
        }
    }
    browser.open(&url(&server, "sessions/run/map"));
    browser.wait("the map", "document.querySelector('.dots[data-points]') !== null");
    browser.js(
        "document.querySelector('.dots').dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }))",
    );
    browser.wait("a row's text", "document.querySelector('.about pre')?.textContent.includes('onerror')");
    assert_eq!(browser.js("return window.taken ?? null"), Value::Null);
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|text| text.contains("status of 404")), "{complaints:?}");
}

#[test]
fn a_hundred_thousand_rows_are_drawn_and_found_again() {
    let Some(browser) = Browser::start() else { return };
    let story = Story::new();
    story.file("rows.jsonl", rows(100_000, ""));
    let server = start(&story);
    let plan = json!({"input": {"paths": ["rows.jsonl"]}, "seed": 3, "select": {"use": "random", "budget": "100%"}});
    server.done("/v1/sessions", &json!({"id": "run", "batch": 64, "plan": plan}));
    server.done("/v1/sessions/run/propose", &json!({"step": 1, "wait_s": 60}));
    browser.size(1280, 900);
    browser.open(&url(&server, "sessions/run/map"));
    browser.wait("all points", "document.querySelector('.dots[data-points=\"100000\"]') !== null");
    let ink = "(() => { const own = document.querySelector('.dots'), all = own.getContext('2d').getImageData(0, 0, own.width, own.height).data;
        let ink = 0; for (let i = 0; i < all.length; i += 4) if (all[i] !== all[0] || all[i + 1] !== all[1] || all[i + 2] !== all[2]) ink += 1; return ink; })()";
    let whole = browser.js(&format!("return {ink}")).as_u64().expect("a count");
    assert!(whole > 500, "only {whole} pixels are drawn");
    let key = |key: &str| {
        browser.js(&format!("document.querySelector('.dots').dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}))"))
    };
    key("+");
    let changed = browser.wait("a closer look", &format!("{ink} !== {whole} && {ink}"));
    assert!(changed.as_u64().is_some_and(|ink| ink > 0), "nothing is left on the closer look");
    key("Enter");
    browser.wait("the row in the middle", "document.querySelector('.about pre')?.textContent.includes('Tell ')");
    // The words of the clusters may come after the map: until then the legend has bare numbers.
    browser.wait(
        "clusters in words, and how many more",
        r"/^\d+ · [a-z]+, [a-z]+.* more$/.test(document.querySelector('.map-legend')?.textContent ?? '')",
    );
    let drawn = browser.js("return document.querySelector('.bench').textContent");
    assert!(drawn.as_str().is_some_and(|own| own.contains("100,000 rows, 64 drawn")), "{drawn}");
    // The test itself reads the canvas back, of which the browser complains.
    let mut complaints = browser.complaints();
    complaints.retain(|text| !text.contains("willReadFrequently"));
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn a_server_with_tokens_asks_for_one() {
    let Some(browser) = Browser::start() else { return };
    let story = Story::new();
    let made = story.curate(&["serve", "token", "add", "me", "--scope", "read", "--data", &story.at("data")]).ok();
    let secret = made.stdout.trim().to_owned();
    let server = start(&story);
    browser.open(&url(&server, ""));
    let give = |token: &str| {
        browser.wait("the question", "document.querySelector('dialog[open] input[type=password]') !== null");
        browser.js(&format!("document.querySelector('dialog input').value = '{token}'; document.querySelector('dialog form').requestSubmit()"));
    };
    give("cur_wrong");
    browser.wait("that it was wrong", "document.querySelector('dialog [role=alert]') !== null");
    give(&secret);
    browser.wait("the overview", "document.querySelector('main').textContent.includes('No session yet')");
    assert_eq!(browser.js("return document.querySelector('dialog') === null"), json!(true));
    assert_eq!(
        browser.js("return document.documentElement.outerHTML").as_str().map(|html| html.contains(&secret)),
        Some(false)
    );
}
