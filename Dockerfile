# The static program and nothing else: docker build -t runner .
#   docker run --rm -v "$PWD:/work" -e OPENAI_API_KEY runner jobs/eval.yaml
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# glibc since 2.34 resolves names in a static program too.
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile dist --bin runner --target "$target" \
    && cp "target/$target/dist/runner" /runner \
    && mkdir -m 1777 /empty

FROM scratch
# What the certificates of providers are checked against.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /runner /runner
# Standard input is kept there while it is read twice.
COPY --from=build /empty /tmp
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# Files belong to who runs it: docker run --user "$(id -u):$(id -g)".
WORKDIR /work
ENTRYPOINT ["/runner"]
