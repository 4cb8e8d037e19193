# One static binary and certificate authorities, and nothing else.
#
#   docker build --tag ncp_exporter .
#
# GO_IMAGE is pinned by its full version; add @sha256:... to pin its bytes too.
ARG GO_IMAGE=docker.io/library/golang:1.26.8-bookworm
FROM --platform=$BUILDPLATFORM $GO_IMAGE AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=devel REVISION=unknown BRANCH=unknown DATE=unknown
RUN v=github.com/prometheus/common/version && \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X $v.Version=$VERSION -X $v.Revision=$REVISION -X $v.Branch=$BRANCH -X $v.BuildDate=$DATE" \
      -o /out/bin/ncp_exporter . && \
    mkdir -p /out/data /out/etc/ssl/certs && \
    cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/

FROM scratch
ARG VERSION=devel REVISION=unknown DATE=unknown
LABEL org.opencontainers.image.title="ncp_exporter" \
      org.opencontainers.image.description="Prometheus exporter for the certificates and certificate logins of NAVER Cloud Platform (NCP)" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$DATE"
COPY --from=build /out/etc /etc
COPY --from=build /out/bin /bin
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
WORKDIR /
# The ledger is /data/ncp_exporter.db.
VOLUME /data
EXPOSE 10420
ENTRYPOINT ["/bin/ncp_exporter"]
