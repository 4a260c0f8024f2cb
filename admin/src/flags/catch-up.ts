import type { Transport } from "@connectrpc/connect";
import { callUnaryMethod } from "@connectrpc/connect-query";
import type { Revisions } from "../environment/environments.ts";
import { AuditService } from "../gen/guidon/v1/audit_pb.ts";
import { everywhere, replaced } from "./everywhere.ts";
import type { Flags } from "./flags.ts";

/** maxEntries of the audit log are looked at for each environment. */
const maxEntries = 100;

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
		const changed = await changedSince(transport, environment, from, signal);
		if (changed === undefined) return undefined;
		for (const key of changed) keys.add(key);
		revisions[environment] = revision;
	}
	if (keys.size > maxKeys) return undefined;
	let { flags } = held;
	for (const key of keys) flags = replaced(flags, key, await everywhere(transport, key, signal));
	return { ...held, flags, revisions };
}

/** changedSince names the flags that changed after a revision. */
async function changedSince(transport: Transport, environment: string, from: bigint, signal?: AbortSignal) {
	const request = { environment, pageSize: maxEntries };
	const { entries } = await callUnaryMethod(
		transport,
		AuditService.method.list,
		request,
		signal ? { signal } : {},
	);
	const reached = entries.findIndex(({ revision }) => revision <= from);
	if (reached === -1 && entries.length === maxEntries) return undefined;
	const later = reached === -1 ? entries : entries.slice(0, reached);
	return later.flatMap(({ changes }) =>
		changes.filter(({ kind }) => kind === "flag").map(({ name }) => name),
	);
}
