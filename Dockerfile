# Doorward as a small image: the binary, the certificate authorities, an account of its own, and nothing to configure it.
#
#   docker build -t doorward .
#   docker run -p 8080:8080 -v "$PWD/config.yaml:/etc/doorward/config.yaml:ro" -v doorward:/var/lib/doorward doorward
#
# With `check` at its end, the same line says what is wrong with the configuration. docker-compose.yml is a whole example.

FROM rust:1.95-bookworm AS build
# The cryptography and the compression are C, and built here; the base image has the compiler and make.
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY templates templates
# The manifest names two examples.
COPY bench/bare.rs bench/gate.rs bench/
# Both caches outlive the build, so that a second one compiles the gateway alone.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --no-default-features --locked \
    && strip -o /doorward target/dist/doorward

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin doorward \
    && install -d -o doorward -g doorward -m 0700 /var/lib/doorward
COPY --from=build /doorward /usr/local/bin/doorward

# The store's file lies here, whatever folder the configuration is in. A named volume takes the owner over; a folder of
# the host must belong to 10001.
ENV STATE_DIRECTORY=/var/lib/doorward
VOLUME /var/lib/doorward
WORKDIR /etc/doorward
USER 10001:10001
EXPOSE 8080

# The admin listener stays inside the container. The base image has neither curl nor wget; bash speaks HTTP well enough.
# This asks for 127.0.0.1:9080, the default of `admin.address`. /livez, not /readyz: a provider that is away is no reason
# to restart the gateway.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/9080 && printf 'GET /livez HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r -t 2 line <&3 && [[ $line == *' 200 '* ]]"]

# SIGTERM ends it gracefully: give `docker stop` more than `shutdown_grace`.
ENTRYPOINT ["doorward"]
CMD ["run"]
