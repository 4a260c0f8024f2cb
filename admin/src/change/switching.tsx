import { useHotkeys } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { createContext, lazy, type ReactNode, Suspense, useContext, useRef, useState } from "react";
import type { Environment } from "../gen/guidon/v1/environment_pb.ts";
import type { Flag } from "../gen/guidon/v1/flag_pb.ts";
import { isObject } from "../json.ts";
import { type Fault, faultOf } from "../session/fault.ts";
import { AppliedNote } from "./applied.tsx";
import { mutationKey } from "./progress.ts";
import { type Applied, apply, newIdempotencyKey, type Switch } from "./switch.ts";

const SwitchDialog = lazy(async () => ({ default: (await import("./dialog.tsx")).SwitchDialog }));

/** undoTime, in milliseconds, is how long a switch can be taken back by one click. */
const undoTime = 10_000;

/** Begin begins a switch; how says whether what it reaches is asked first, or that it lifts a kill. */
type Begin = (
	flag: Flag,
	environment: Environment,
	on: boolean,
	expected: bigint,
	how?: "ask" | "unkill",
) => void;

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
	// The first one shows; a fault of one switch never takes the place of another.
	const [queue, setQueue] = useState<Asked[]>([]);
	const [asked] = queue;
	const lastUndo = useRef<() => void>(undefined);
	const { mutateAsync } = useMutation({
		mutationKey,
		mutationFn: (wish: Switch) => apply(client, wish),
		// A cell says "applied at revision N" for as long as this is remembered.
		gcTime: undoTime,
	});
	useHotkeys([["u", () => lastUndo.current?.()]]);

	async function carryOut(wish: Switch, needsReason: boolean) {
		try {
			const applied = await mutateAsync(wish);
			settle(wish);
			announce(wish, applied, needsReason);
		} catch (error) {
			ask({ wish, needsReason, fault: faultOf(error) });
		}
	}

	function ask(next: Asked) {
		const same = (each: Asked) => isSame(each.wish, next.wish);
		setQueue((all) => (all.some(same) ? all.map((each) => (same(each) ? next : each)) : [...all, next]));
	}

	function settle(wish: Switch) {
		setQueue((all) => all.filter((each) => !isSame(each.wish, wish)));
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

	const begin: Begin = (flag, environment, on, expected, how) => {
		const wish: Switch = {
			environment: environment.name,
			key: flag.key,
			on,
			variants: isObject(flag.definition?.variants) ? Object.keys(flag.definition.variants) : [],
			kill: how === "unkill" ? flag.killed?.variant : undefined,
			reason: "",
			expected,
			idempotencyKey: newIdempotencyKey(),
		};
		if (environment.protected || how === "ask") ask({ wish, needsReason: environment.protected });
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
						onConfirm={(wish) => void carryOut(wish, asked.needsReason)}
						onClose={() => settle(asked.wish)}
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

/** isSame tells a wish that is tried again from another one. */
function isSame(a: Switch, b: Switch): boolean {
	return a.idempotencyKey === b.idempotencyKey;
}
