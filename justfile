# Recipes of the house; `just` alone lists them.

_default:
    @just --list --unsorted

# Formatting, lints and tests: what must pass before a change is proposed
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets
    cargo test --workspace

# All tests
test:
    cargo test --workspace

# Training runs too long for every change: number tasks learned from rows to report, and what wrong answers cost
acceptance:
    cargo test --release --workspace --test trainer -- --ignored three_digits --nocapture

# The binary, optimised: target/release/curate
build:
    cargo build --release

# The binary as it is shipped: target/dist/curate
build-dist:
    cargo build --profile dist

# The generated reference of methods
docs:
    mkdir -p docs
    cargo run --release -- methods --markdown > docs/methods.md.new
    mv docs/methods.md.new docs/methods.md

# What the trainer writes, read by transformers and PEFT (needs Python with torch, transformers, peft)
interop python="python3":
    rm -rf target/interop
    for base in llama llama-tied qwen2 qwen3; do \
        cargo run -q -p curate-trainer --example interop -- datasets/golden/trainer/$base target/interop/$base && \
        {{python}} trainer/interop/peft_check.py datasets/golden/trainer/$base target/interop/$base || exit 1; \
    done

# Licences, advisories and sources of all dependencies (needs cargo-deny)
deny:
    cargo deny check
