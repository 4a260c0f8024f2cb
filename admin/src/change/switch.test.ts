import { create } from "@bufbuild/protobuf";
import { expect, it, vi } from "vitest";
import { ConflictSchema } from "../gen/guidon/v1/change_pb.ts";

// The transport reads where the page came from.
vi.stubGlobal("window", { location: { origin: "http://guidon.test" } });
const { mayTouch, newIdempotencyKey } = await import("./switch.ts");

const conflict = (...names: string[]) =>
	create(ConflictSchema, { changed: names.map((name) => ({ kind: "flag", name, action: "changed" })) });

it("follows changes to other flags only", () => {
	expect(mayTouch(conflict("other"), "mine")).toBe(false);
	expect(mayTouch(conflict("other", "mine"), "mine")).toBe(true);
});

it("does not trust a list that may be cut short, or is missing", () => {
	expect(mayTouch(conflict(...Array.from({ length: 100 }, (_, i) => `flag-${i}`)), "mine")).toBe(true);
	expect(mayTouch(conflict(), "mine")).toBe(true);
});

it("does not mind a segment of the same name", () => {
	const changed = create(ConflictSchema, { changed: [{ kind: "segment", name: "mine", action: "changed" }] });
	expect(mayTouch(changed, "mine")).toBe(false);
});

it("makes idempotency keys that differ", () => {
	const keys = new Set(Array.from({ length: 100 }, newIdempotencyKey));
	expect(keys.size).toBe(100);
	for (const key of keys) expect(key).toMatch(/^[0-9a-f]{32}$/);
});
