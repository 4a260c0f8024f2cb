import type { Transport } from "@connectrpc/connect";
import { callUnaryMethod } from "@connectrpc/connect-query";
import type { Revisions } from "../environment/environments.ts";
import { AuditService } from "../gen/guidon/v1/audit_pb.ts";
import { everywhere, replaced } from "./everywhere.ts";
import type { Flags } from "./flags.ts";

/** maxRevisions is how far behind an environment is caught up with. */
const maxRevisions = 100n;

/** slack covers entries that are written while the log is being asked for. */
const slack = 10n;

/** maxKeys is how many flags are read one by one; more are read all at once. */
const maxKeys = 10;

/**
 * catchUp brings flags to the newest revisions by reading only those that the
 * audit log says have changed: a list of thousands follows one change without
 * being read again. It is undefined where too much has changed for that.
 */
export async function catchUp(
	transport: Transport,
	held: Flags,
	newest: Revisions,
	signal?: AbortSignal,
): Promise<Flags | undefined> {
	const keys = new Set<string>();
	const revisions = { ...held.revisions };
	for (const [environment, revision] of Object.entries(newest)) {
		const from = held.revisions[environment];
		if (from === undefined) return undefined;
		if (revision <= from) continue;
		const changed = await changedBetween(transport, environment, from, revision, signal);
		if (changed === undefined) return undefined;
		for (const key of changed) keys.add(key);
		revisions[environment] = revision;
	}
	if (keys.size > maxKeys) return undefined;
	let { flags } = held;
	for (const key of keys) flags = replaced(flags, key, await everywhere(transport, key, signal));
	return { ...held, flags, revisions };
}

/**
 * changedBetween names the flags that changed after one revision and up to
 * another. Each revision has one entry in the log, newest first.
 */
async function changedBetween(
	transport: Transport,
	environment: string,
	from: bigint,
	to: bigint,
	signal?: AbortSignal,
): Promise<string[] | undefined> {
	if (to - from > maxRevisions) return undefined;
	const request = { environment, pageSize: Number(to - from + slack) };
	const { entries } = await callUnaryMethod(
		transport,
		AuditService.method.list,
		request,
		signal ? { signal } : {},
	);
	const later = entries.filter(({ revision }) => revision > from);
	if (later.at(-1)?.revision !== from + 1n) return undefined;
	return later.flatMap(({ changes }) =>
		changes.filter(({ kind }) => kind === "flag").map(({ name }) => name),
	);
}
