import { describe, expect, it } from "vitest";
import { compact, pretty } from "../json.ts";
import { differences } from "./diff.ts";

describe("differences", () => {
	it("names each field by its path", () => {
		const before = { state: "ENABLED", variants: { on: true, "new.blue": 1 }, metadata: { a: 1 } };
		const after = { state: "DISABLED", variants: { on: true, "new.blue": 2 }, defaultVariant: "on" };
		expect(differences(before, after)).toEqual([
			{ path: "$.defaultVariant", before: undefined, after: "on" },
			{ path: "$.metadata", before: { a: 1 }, after: undefined },
			{ path: "$.state", before: "ENABLED", after: "DISABLED" },
			{ path: '$.variants["new.blue"]', before: 1, after: 2 },
		]);
	});

	it("compares lists whole", () => {
		expect(differences({ if: [1, { a: 2 }] }, { if: [1, { a: 3 }] })).toEqual([
			{ path: "$.if", before: [1, { a: 2 }], after: [1, { a: 3 }] },
		]);
		expect(differences({ if: [1, { a: 2 }] }, { if: [1, { a: 2 }] })).toEqual([]);
	});

	it("tells null from absent", () => {
		expect(differences({ a: null }, {})).toEqual([{ path: "$.a", before: null, after: undefined }]);
	});
});

it("pretty spreads out only what does not fit on a line", () => {
	const rule = { in: [{ var: "country" }, ["DE", "AT", "CH"]] };
	expect(pretty({ if: [rule, "blue", rule, "green"] })).toBe(
		[
			"{",
			'  "if": [',
			`    ${JSON.stringify(rule)},`,
			'    "blue",',
			`    ${JSON.stringify(rule)},`,
			'    "green"',
			"  ]",
			"}",
		].join("\n"),
	);
	expect(pretty({ a: 1 })).toBe('{"a":1}');
	expect(compact(undefined)).toBe("");
});
