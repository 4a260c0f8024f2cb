// Package container reads the Dockerfile and compose.yaml of the repository with
// the parsers and linters of those who build and run them, BuildKit and Compose:
// its tests are what `docker build --check` and `docker compose config` do,
// without a container engine.
//
// It is a module of its own, so that what they depend on is nothing that Guidon
// depends on.
package container
