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

# The binary with its GPU programs compiled ahead (needs Python's pip, no GPU and no nvcc): target/cuda/curate
build-cuda profile="dist":
    kernels/build-cuda.sh {{profile}}

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

# Trainers over HTTP from a live server, killed on both sides and resumed (needs Python with torch, transformers, accelerate; trl if there)
interop-http python="python3" binary="target/release/curate":
    clients/python/interop/run.sh {{python}} {{binary}}

# Licences, advisories and sources of all dependencies (needs cargo-deny)
deny:
    cargo deny check

# The contract of the service for machines: docs/openapi.json
openapi:
    cargo run -q -p curate -- serve openapi > target/openapi.json
    mv target/openapi.json docs/openapi.json

# Throw odd requests at a running server, made from its contract; any 5xx is a defect (needs schemathesis: pip install schemathesis).
# A paused session answers 503, so pausing is left out; news have no end.
fuzz-http url="http://127.0.0.1:7878" examples="100":
    schemathesis run {{url}}/openapi.json --url {{url}} --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
        --exclude-path-regex '/(events|pause)$' --max-examples {{examples}} --request-timeout 90 --suppress-health-check all --generation-database none
