import { fromJson } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { AuditChangeSchema } from "../gen/guidon/v1/audit_pb.ts";
import { actorName, createdName, differencesOf, entryId, kindName, shortDifference } from "./entry.ts";

it("entryId names the chain and the place in it", () => {
	expect(entryId({ environment: "production", sequence: 42n })).toBe("production:42");
	expect(entryId({ environment: "", sequence: 7n })).toBe("installation:7");
});

it("kindName says what people say", () => {
	expect(["flag", "emergency", "segment", "propagation_key"].map(kindName)).toEqual([
		"flag",
		"flag",
		"segment",
		"propagation key",
	]);
});

it("differencesOf keeps null and absent apart", () => {
	const change = fromJson(AuditChangeSchema, {
		fields: [
			{ path: "$.flag.state", before: "ENABLED", after: "DISABLED" },
			{ path: "$.flag.targeting", after: { if: [true, "on", null] } },
		],
	});
	expect(differencesOf(change)).toEqual([
		{ path: "$.flag.state", before: "ENABLED", after: "DISABLED" },
		{ path: "$.flag.targeting", before: undefined, after: { if: [true, "on", null] } },
	]);
});

it("actorName leaves the id out", () => {
	expect(actorName("key:k7Qd release bot")).toBe("release bot");
	expect(actorName("system")).toBe("system");
});

it("shortDifference says one small change whole", () => {
	const state = { path: "$.flag.state", before: "ENABLED", after: "DISABLED" };
	expect(shortDifference([state])).toBe('state "ENABLED" → "DISABLED"');
	expect(shortDifference([{ path: "$.defaultVariant", before: undefined, after: "on" }])).toBe(
		'defaultVariant nothing → "on"',
	);
	expect(shortDifference([{ path: "$", before: undefined, after: { state: "ENABLED" } }])).toBe("");
});

it("shortDifference names the fields of a larger change", () => {
	const at = (path: string) => ({ path, before: [], after: ["e2e"] });
	expect(shortDifference([at("$.tags")])).toBe("tags");
	expect(shortDifference(["$.a", "$.b", "$.c", "$.d"].map(at))).toBe("a, b, c and 1 more");
});

it("createdName is there only where a name was given", () => {
	expect(createdName([{ path: "$", before: undefined, after: { kind: "admin", name: "release bot" } }])).toBe(
		"release bot",
	);
	expect(createdName([{ path: "$.revoked", before: undefined, after: "2026-01-01" }])).toBe("");
});
