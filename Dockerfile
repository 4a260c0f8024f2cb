# syntax=docker/dockerfile:1
# The admin UI, the one static binary, and nothing else.
FROM node:22-alpine AS admin
WORKDIR /src/admin
COPY admin/package.json admin/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY admin/ ./
RUN npm run build

FROM golang:1.26-alpine AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
COPY --from=admin /src/admin/dist/app ./admin/dist/app
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /guidon ./cmd/guidon

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /guidon /guidon
USER nonroot:nonroot
ENV GUIDON_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/guidon", "health"]
ENTRYPOINT ["/guidon"]
CMD ["serve"]
