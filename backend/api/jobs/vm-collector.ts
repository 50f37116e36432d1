/**
 * The collector removes deleted VMs and expired records.
 *
 * The deletion of a VM has three steps, each done by the writer of the keys. The API sets `deleted_at`. The host
 * removes the VM from the machine and reports `gone`, and the scheduler then removes schedule and placement. The
 * scheduler never places a VM with `deleted_at`, and removes its schedule at once if it had no host. The collector acts
 * when `deleted_at` is set and no schedule exists. In one transaction with these conditions it removes the declaration,
 * its name, addresses and references, and all observations.
 *
 * So no address is free while a host may use it, and the records of a VM are removed together. Any number of collectors
 * may run: the conditions hold for one of them only.
 */

import type { Component } from '../../model/component.ts';
import { newEvent } from '../../model/events.ts';
import { addressKey, macKey, storedIpv6 } from '../../model/network/addresses.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, read, remove, rewrite, unchanged } from '../../store/collection.ts';
import { isChangeOf, type RecordChange } from '../../store/mirror.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Write } from '../../store/store.ts';
import type { ApiContext } from '../requests/context.ts';
import { releaseName, removeReference } from '../transaction/declarations.ts';
import { expire } from './retention.ts';
import { boundTrails } from './trails.ts';

const expiryMs = 10 * 60_000;
const retryMs = 1000;
/** The number of VMs that are removed at the same time. */
const concurrency = 64;

/** Ends the latest operation of a removed VM: it cannot succeed any more. */
async function endOperation(api: ApiContext, vm: string, at: string) {
  const latest = await read(api.store, records.latestOperations, vm);
  const operation = latest && (await read(api.store, records.operations, latest.value.id));
  if (!operation || operation.value.finished_at !== undefined) return { require: [], write: [] };
  const value: records.OperationRecord = {
    ...operation.value,
    state: 'failed',
    error: { code: 'being_deleted', message: 'The VM was deleted.' },
    finished_at: at,
    updated_at: at,
  };
  return { require: [unchanged(operation)], write: [rewrite(records.operations, operation, value)] };
}

function leftovers(vm: records.VmRecord): Write[] {
  const used = new Set([vm.image, ...vm.ssh_keys, ...vm.interfaces.map(({ network }) => network)]);
  return [
    remove(records.vms, vm.id),
    releaseName('vm', vm.project, vm.name),
    ...[...used].map((id) => removeReference(id, vm.id)),
    ...vm.interfaces.map(({ mac }) => remove(records.macs, macKey(mac))),
    ...vm.interfaces.map(({ address }) => remove(records.addresses, addressKey(storedIpv6(address)))),
    remove(records.reports, vm.id),
    remove(records.guests, vm.id),
    remove(records.latestOperations, vm.id),
  ];
}

/** Returns true if the VM is removed, or must not be removed any more. */
async function removeVm(api: ApiContext, stored: Stored<records.VmRecord>): Promise<boolean> {
  const now = new Date();
  const message = `${stored.value.name} is gone.`;
  const operation = await endOperation(api, stored.id, now.toISOString());
  const { ok } = await api.store.commit({
    require: [unchanged(stored), absent(records.schedules, stored.id), ...operation.require],
    write: [
      ...leftovers(stored.value),
      ...operation.write,
      put(records.events, ...newEvent(now, stored.value, { severity: 'info', reason: 'deleted', message })),
    ],
  });
  return ok;
}

/** Starts the collector. */
export function startCollector(api: ApiContext): Component {
  const { mirror, logger } = api;
  const waiting = new Set<string>();
  const timers = new Set<NodeJS.Timeout>();
  const closing = new AbortController();
  let working: Promise<void> | undefined;

  const isDue = (id: string): boolean =>
    mirror.get(records.vms, id)?.value.deleted_at !== undefined && mirror.get(records.schedules, id) === undefined;

  const later = (ms: number, work: () => void) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      work();
    }, ms);
    timer.unref();
    timers.add(timer);
  };

  async function collect(id: string): Promise<void> {
    const stored = mirror.get(records.vms, id);
    if (!stored || !isDue(id)) return;
    try {
      if (await removeVm(api, stored)) return;
    } catch (err) {
      logger.warn({ err, vm: id }, 'a deleted VM could not be removed, it will be tried again');
    }
    // No later change may bring the VM up again, so a timer does.
    later(retryMs, () => consider(id));
  }

  async function work(): Promise<void> {
    while (waiting.size > 0 && !closing.signal.aborted) {
      const batch = [...waiting].slice(0, concurrency);
      for (const id of batch) waiting.delete(id);
      await Promise.all(batch.map(collect));
    }
  }

  function begin(): void {
    if (waiting.size === 0 || closing.signal.aborted) return;
    working ??= work().finally(() => {
      working = undefined;
      begin();
    });
  }

  function consider(id: string): void {
    if (!isDue(id)) return;
    waiting.add(id);
    begin();
  }

  const affected = (change: RecordChange): boolean =>
    isChangeOf(records.vms, change) || isChangeOf(records.schedules, change);
  const stop = mirror.subscribe(({ changes }) => {
    for (const change of changes) if (affected(change)) consider(change.id);
  });

  let expiring: Promise<void> = Promise.resolve();
  const expireNow = () => {
    expiring = expire(api.store, new Date(), closing.signal)
      .then(() => boundTrails(api, closing.signal))
      .catch((err: unknown) => logger.warn({ err }, 'old records could not be removed, it will be tried again'));
    later(expiryMs, expireNow);
  };

  for (const { id } of mirror.list(records.vms)) consider(id);
  expireNow();

  return {
    async close() {
      closing.abort();
      stop();
      for (const timer of timers) clearTimeout(timer);
      await working;
      await expiring;
    },
  };
}
