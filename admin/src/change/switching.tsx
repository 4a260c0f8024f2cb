import { useHotkeys } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { useMutation, useMutationState, useQueryClient } from "@tanstack/react-query";
import { createContext, lazy, type ReactNode, Suspense, useContext, useRef, useState } from "react";
import type { Environment } from "../gen/guidon/v1/environment_pb.ts";
import type { Flag } from "../gen/guidon/v1/flag_pb.ts";
import { type Fault, faultOf } from "../session/fault.ts";
import { AppliedNote } from "./applied.tsx";
import { type Applied, apply, newIdempotencyKey, type Switch } from "./switch.ts";

const SwitchDialog = lazy(async () => ({ default: (await import("./dialog.tsx")).SwitchDialog }));

/** undoTime, in milliseconds, is how long a switch can be taken back by one click. */
const undoTime = 10_000;

const mutationKey = ["switch"] as const;

type Begin = (flag: Flag, environment: Environment, on: boolean, expected: bigint) => void;

const Switching = createContext<Begin>(() => undefined);

/** Asked is a switch that waits for a reason or for what to do about a fault. */
interface Asked {
	wish: Switch;
	needsReason: boolean;
	fault?: Fault;
}

/**
 * SwitchingProvider carries out switches for the whole application: it asks for
 * the reason where an environment is protected, shows what went wrong, and
 * offers to undo.
 */
export function SwitchingProvider({ children }: { children: ReactNode }) {
	const client = useQueryClient();
	const [asked, setAsked] = useState<Asked>();
	const lastUndo = useRef<() => void>(undefined);
	const { mutateAsync, isPending } = useMutation({
		mutationKey,
		mutationFn: (wish: Switch) => apply(client, wish),
		// A cell says "applied at revision N" for as long as this is remembered.
		gcTime: undoTime,
	});
	useHotkeys([["u", () => lastUndo.current?.()]]);

	async function carryOut(wish: Switch, needsReason: boolean) {
		try {
			const applied = await mutateAsync(wish);
			setAsked(undefined);
			announce(wish, applied, needsReason);
		} catch (error) {
			setAsked({ wish, needsReason, fault: faultOf(error) });
		}
	}

	function announce(wish: Switch, { revision }: Applied, needsReason: boolean) {
		const id = wish.idempotencyKey;
		const undo = () => {
			lastUndo.current = undefined;
			notifications.hide(id);
			const reason = `Undo of revision ${revision}${wish.reason ? `: ${wish.reason}` : ""}`;
			const back = { ...wish, on: !wish.on, expected: revision, reason, idempotencyKey: newIdempotencyKey() };
			void carryOut(back, needsReason);
		};
		lastUndo.current = revision > 0n ? undo : undefined;
		notifications.show({
			id,
			autoClose: undoTime,
			withBorder: true,
			onClose: () => {
				if (lastUndo.current === undo) lastUndo.current = undefined;
			},
			message: <AppliedNote wish={wish} revision={revision} onUndo={undo} />,
		});
	}

	const begin: Begin = (flag, environment, on, expected) => {
		const wish: Switch = {
			environment: environment.name,
			key: flag.key,
			on,
			reason: "",
			expected,
			idempotencyKey: newIdempotencyKey(),
		};
		if (environment.protected) setAsked({ wish, needsReason: true });
		else void carryOut(wish, false);
	};

	return (
		<Switching value={begin}>
			{children}
			{asked && (
				<Suspense>
					<SwitchDialog
						key={asked.wish.idempotencyKey}
						wish={asked.wish}
						needsReason={asked.needsReason}
						fault={asked.fault}
						pending={isPending}
						onConfirm={(wish) => void carryOut(wish, asked.needsReason)}
						onClose={() => setAsked(undefined)}
					/>
				</Suspense>
			)}
		</Switching>
	);
}

/** useSwitching returns what begins a switch. */
export function useSwitching(): Begin {
	return useContext(Switching);
}

/** useSwitchState says what became of the newest switch of a flag. */
export function useSwitchState(
	environment: string,
	key: string,
): { pending: boolean; revision: bigint | undefined } {
	const states = useMutationState({
		filters: { mutationKey, predicate: ({ state }) => concerns(state.variables, environment, key) },
		select: ({ state }) => ({
			pending: state.status === "pending",
			applied: state.data as Applied | undefined,
		}),
	});
	const newest = states.at(-1);
	return { pending: newest?.pending ?? false, revision: newest?.applied?.revision };
}

function concerns(variables: unknown, environment: string, key: string): boolean {
	const wish = variables as Switch | undefined;
	return wish?.environment === environment && wish.key === key;
}
