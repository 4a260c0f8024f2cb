import { create } from "@bufbuild/protobuf";
import { createRouterTransport } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { AuditService } from "../gen/guidon/v1/audit_pb.ts";
import { FlagSchema, FlagService } from "../gen/guidon/v1/flag_pb.ts";
import { catchUp } from "./catch-up.ts";
import { replaced } from "./everywhere.ts";

const flag = (key: string, revision = 1) =>
	create(FlagSchema, { key, environment: "development", revision: BigInt(revision) });

/** server has a flag b, and an audit log in which each revision changed one flag. */
function server(changed: string[]) {
	const asked: string[] = [];
	const transport = createRouterTransport(({ service }) => {
		service(AuditService, {
			list: ({ pageSize }) => ({
				entries: changed
					.map((name, i) => ({ revision: BigInt(i + 1), changes: [{ kind: "flag", name }] }))
					.reverse()
					.slice(0, pageSize),
			}),
		});
		service(FlagService, {
			list: ({ query }) => {
				asked.push(query);
				return { flags: query === "b" ? [flag("b", 9), flag("bb", 9)] : [] };
			},
		});
	});
	return { transport, asked };
}

describe("catchUp", () => {
	const held = { flags: [flag("a"), flag("b"), flag("c")], revisions: { development: 2n }, complete: true };

	it("reads only what changed since, once", async () => {
		const { transport, asked } = server(["a", "c", "b", "b", "c"]);
		const now = await catchUp(transport, held, { development: 5n });
		expect(asked).toEqual(["c", "b"]);
		expect(now?.revisions).toEqual({ development: 5n });
		expect(now?.flags.map(({ key, revision }) => `${key} ${revision}`)).toEqual(["a 1", "b 9"]);
	});

	it.each([1n, 2n])("asks nothing and goes nowhere at revision %d", async (development) => {
		const { transport, asked } = server(["a", "b"]);
		expect(await catchUp(transport, held, { development })).toEqual(held);
		expect(asked).toEqual([]);
	});

	it.each([
		["more revisions than are looked through", Array.from({ length: 200 }, () => "b"), { development: 200n }],
		["a log that has moved on too far", Array.from({ length: 50 }, () => "b"), { development: 5n }],
		[
			"more flags than are read one by one",
			Array.from({ length: 20 }, (_, i) => `flag-${i}`),
			{ development: 20n },
		],
		["a new environment", [], { development: 2n, staging: 1n }],
	])("gives up at %s", async (_, changed, newest) => {
		expect(await catchUp(server(changed).transport, held, newest)).toBeUndefined();
	});
});

it("replaced keeps the order of the keys", () => {
	const flags = [flag("a"), flag("b"), flag("d")];
	const keys = (key: string, now: string[]) =>
		replaced(
			flags,
			key,
			now.map((name) => flag(name)),
		).map((each) => each.key);
	expect(keys("c", ["c"])).toEqual(["a", "b", "c", "d"]);
	expect(keys("e", ["e"])).toEqual(["a", "b", "d", "e"]);
	expect(keys("b", ["b"])).toEqual(["a", "b", "d"]);
	expect(keys("b", [])).toEqual(["a", "d"]);
});
