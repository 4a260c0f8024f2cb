import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { FlagSchema } from "../gen/guidon/v1/flag_pb.ts";
import { matches, parseQuery, rowsOf } from "./query.ts";

const flag = (init: MessageInitShape<typeof FlagSchema>) =>
	create(FlagSchema, {
		environment: "development",
		state: "ENABLED",
		kind: "release",
		project: "shop",
		...init,
	});

const rows = rowsOf([
	flag({ key: "checkout.new-pricing", tags: ["Checkout"], description: "New price engine" }),
	flag({ key: "checkout.new-pricing", environment: "production", state: "DISABLED" }),
	flag({ key: "imported", definition: { metadata: { description: "From a flagd document" } } }),
	flag({ key: "search.timeout", kind: "config", owner: "team-search" }),
	flag({ key: "search.old", archived: true, state: "DISABLED" }),
]);

const found = (text: string, environment?: string) =>
	rows.filter((row) => matches(row, parseQuery(text), environment)).map((row) => row.key);

describe("rowsOf", () => {
	it("puts the environments of a key in one row", () => {
		expect(rows.map((row) => [row.key, row.byEnvironment.size])).toEqual([
			["checkout.new-pricing", 2],
			["imported", 1],
			["search.timeout", 1],
			["search.old", 1],
		]);
	});
});

describe("matches", () => {
	it.each<[string, string[]]>([
		["", ["checkout.new-pricing", "imported", "search.timeout"]],
		["flagd", ["imported"]],
		["PRICE", ["checkout.new-pricing"]],
		["price checkout", ["checkout.new-pricing"]],
		["price timeout", []],
		["tag:checkout", ["checkout.new-pricing"]],
		["kind:config owner:team-search", ["search.timeout"]],
		["kind:", ["checkout.new-pricing", "imported", "search.timeout"]],
		["is:archived", ["search.old"]],
		["colour:blue checkout", []],
		["state:off", ["checkout.new-pricing"]],
	])("%j finds %j", (text, keys) => {
		expect(found(text)).toEqual(keys);
	});

	it("looks at the state in the chosen environment", () => {
		expect(found("state:off", "development")).toEqual([]);
		expect(found("state:off", "production")).toEqual(["checkout.new-pricing"]);
	});
});

it("parseQuery points out fields that do not exist", () => {
	expect(parseQuery("colour:blue price").unknown).toEqual(["colour"]);
});
