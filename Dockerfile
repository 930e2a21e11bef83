# One image with both programs: borealis-node (every part of a cluster) and borealis-operator.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends mold && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p node -p operator --bins \
    && mkdir -p /out && cp target/release/borealis-node target/release/borealis-operator /out/

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ /usr/local/bin/
USER 65532:65532
EXPOSE 3306 7400 8080
ENTRYPOINT ["borealis-node"]
