import { Button, Modal, NativeSelect, Textarea } from "@mantine/core";
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
	const [kill, setKill] = useState(wish.kill);
	// What an emergency is for is always kept.
	const explained = needsReason || kill !== undefined;
	const missing = explained && reason.trim() === "";
	const conflict = fault?.conflict;

	function confirm(event: FormEvent) {
		event.preventDefault();
		if (missing || pending) return;
		onConfirm({ ...wish, kill, reason: reason.trim(), expected: conflict?.revision ?? wish.expected });
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
					<span>{effect({ ...wish, kill })}</span>
				</p>
				{!wish.on && !conflict && (
					<NativeSelect
						label="Reaches"
						value={kill ?? ""}
						onChange={(event) => setKill(event.currentTarget.value || undefined)}
						data={[
							{ value: "", label: "new requests only" },
							...wish.variants.map((value) => ({
								value,
								label: `everything under way too, with variant ${value}`,
							})),
						]}
					/>
				)}
				{explained && (
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
						color={explained ? "carmine" : undefined}
					>
						{action({ ...wish, kill }, fault)}
					</Button>
				</div>
			</form>
		</Modal>
	);
}

function Title({ wish }: { wish: Switch }) {
	return (
		<>
			{wish.on && wish.kill !== undefined ? "Unkill" : "Switch"} <span className={css.key}>{wish.key}</span>
			{wish.kill === undefined && (wish.on ? " on" : " off")}
		</>
	);
}

function effect({ on, kill }: Switch): string {
	if (kill !== undefined)
		return on
			? "Its definition decides again, for new requests. Those that the kill reached keep to it."
			: `Every request gets “${kill}” now, those under way and queued messages too, whatever the rules say. It lasts until the flag is let live again.`;
	return on
		? "Rules and the default variant decide again, from the next request on."
		: "Every caller gets its own default, from the next request on; no rule is looked at. Requests under way and queued messages keep what they have.";
}

function action({ on, kill }: Switch, fault: Fault | undefined): string {
	if (fault?.conflict) return `Switch ${on ? "on" : "off"} at revision ${fault.conflict.revision}`;
	if (kill !== undefined && !fault) return on ? "Unkill" : "Kill";
	return fault ? "Try again" : on ? "Switch on" : "Switch off";
}
