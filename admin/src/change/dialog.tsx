import { Button, Modal, Textarea } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { EnvironmentName } from "../environment/name.tsx";
import type { Fault } from "../session/fault.ts";
import { FaultNote } from "../session/fault-note.tsx";
import css from "./change.module.css";
import { ConflictNote } from "./conflict.tsx";
import { useProgress } from "./progress.ts";
import type { Switch } from "./switch.ts";

interface Properties {
	wish: Switch;
	needsReason: boolean;
	fault: Fault | undefined;
	onConfirm: (wish: Switch) => void;
	onClose: () => void;
}

/**
 * SwitchDialog asks for the reason of a switch, or what to do about one that
 * did not work. It keeps what was typed until the switch is applied.
 */
export function SwitchDialog({ wish, needsReason, fault, onConfirm, onClose }: Properties) {
	const { pending } = useProgress(wish.environment, wish.key);
	const [reason, setReason] = useState(wish.reason);
	const missing = needsReason && reason.trim() === "";
	const conflict = fault?.conflict;

	function confirm(event: FormEvent) {
		event.preventDefault();
		if (missing || pending) return;
		onConfirm({ ...wish, reason: reason.trim(), expected: conflict?.revision ?? wish.expected });
	}

	return (
		<Modal
			opened
			onClose={onClose}
			size="lg"
			closeButtonProps={{ "aria-label": "Close" }}
			title={<Title wish={wish} />}
		>
			<form onSubmit={confirm} className={css.form}>
				<p className={css.effect}>
					<EnvironmentName name={wish.environment} guarded={needsReason} />
					<span>{effect(wish)}</span>
				</p>
				{needsReason && (
					<Textarea
						label="Reason"
						description="It is kept in the audit log with this change."
						value={reason}
						onChange={(event) => setReason(event.currentTarget.value)}
						onKeyDown={(event) => {
							if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) confirm(event);
						}}
						required
						autosize
						minRows={2}
						maxRows={8}
						data-autofocus
					/>
				)}
				{conflict ? (
					<ConflictNote conflict={conflict} wish={wish} onLeave={onClose} />
				) : (
					fault && <FaultNote fault={fault} />
				)}
				<div className={css.buttons}>
					<Button variant="default" onClick={onClose}>
						{conflict ? "Leave it as it is" : "Cancel"}
					</Button>
					<Button
						type="submit"
						loading={pending}
						disabled={missing}
						color={needsReason ? "carmine" : undefined}
					>
						{action(wish, fault)}
					</Button>
				</div>
			</form>
		</Modal>
	);
}

function Title({ wish }: { wish: Switch }) {
	return (
		<>
			Switch <span className={css.key}>{wish.key}</span> {wish.on ? "on" : "off"}
		</>
	);
}

function effect({ on }: Switch): string {
	return on
		? "Rules and the default variant decide again, from the next request on."
		: "Every caller gets its own default, from the next request on. No rule is looked at.";
}

function action({ on }: Switch, fault: Fault | undefined): string {
	if (fault?.conflict) return `Switch ${on ? "on" : "off"} at revision ${fault.conflict.revision}`;
	return fault ? "Try again" : on ? "Switch on" : "Switch off";
}
