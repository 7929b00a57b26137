# The static program and nothing else: docker build -t runner .
#   docker run --rm -v "$PWD:/work" -e OPENAI_API_KEY runner jobs/eval.yaml
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# glibc since 2.34 resolves names in a static program too.
RUN RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile dist --bin runner --target x86_64-unknown-linux-gnu \
    && cp target/x86_64-unknown-linux-gnu/dist/runner /runner

FROM scratch
# What the certificates of providers are checked against.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /runner /runner
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# Files belong to who runs it: docker run --user "$(id -u):$(id -g)".
WORKDIR /work
ENTRYPOINT ["/runner"]
