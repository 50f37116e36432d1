/** Legal entities: the companies of the operator. */
import { type LegalEntityBody, type LegalEntityUpdate, legalEntity } from '../../contract/resources/legal-entities.ts';
import { levelsProblem } from '../../model/billing/dunning.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, read, remove } from '../../store/collection.ts';
import type { Write } from '../../store/store.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, patched, removal, replacement } from '../transaction/declarations.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';

/** The descriptor of legal entities. */
export const legalEntities: ResourceDescriptor<records.LegalEntityRecord> = describe(legalEntity, {
  kind: records.legalEntities,
  scope: 'operator',
  show: (_api, { oss = false, dunning_levels = [], prepaid_grace_days = 14, ...record }) => ({
    ...{ ...record, oss, prepaid_grace_days, dunning_levels },
  }),
  handlers: {
    legal_entity_create: createLegalEntity,
    legal_entity_update: updateLegalEntity,
    legal_entity_delete: deleteLegalEntity,
  },
});

/**
 * Returns the guard and the write that give a series of numbers to an entity. A series with numbers stays taken, so no number
 * ever occurs twice.
 */
function takeSeries({ id, number_series }: records.LegalEntityRecord) {
  return {
    guards: [
      {
        condition: absent(records.numberSeries, number_series),
        otherwise: () => fieldError('rule_violated', '/number_series', 'belongs or belonged to another legal entity'),
      },
    ],
    writes: [put(records.numberSeries, number_series, { id })],
  };
}

/** Checks the reminders. @throws UcloudError `rule_violated` */
function checkLevels({ dunning_levels = [] }: Pick<records.LegalEntityRecord, 'dunning_levels'>): void {
  const problem = levelsProblem(dunning_levels);
  if (problem) throw fieldError('rule_violated', `/dunning_levels${problem.pointer}`, problem.rule);
}

async function createLegalEntity(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const at = request.now.toISOString();
  const body = request.body as LegalEntityBody;
  checkLevels(body);
  const record: records.LegalEntityRecord = { id: newId('legal_entity'), ...body, created_at: at, updated_at: at };
  return mutate(api, request, () => creation(api, legalEntities, record, takeSeries(record)));
}

async function updateLegalEntity(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, legalEntities, async (stored) => {
    const changed: records.LegalEntityRecord = patched(legalEntity, stored.value, request.body as LegalEntityUpdate);
    checkLevels(changed);
    const next = { ...changed, updated_at: request.now.toISOString() };
    const series = next.number_series;
    if (series === stored.value.number_series) return replacement(api, request, legalEntities, stored, next);
    // An entity may return to a series of its own.
    const own = await api.store.get(records.numberSeries.prefix + series);
    const isOwn = own !== undefined && JSON.parse(own.value).id === next.id;
    return replacement(api, request, legalEntities, stored, next, isOwn ? {} : takeSeries(next));
  });
}

/** Returns the guards and writes that free a series without numbers. A series with numbers stays taken. */
async function freeSeries(api: ApiContext, series: string): Promise<{ guards: Guard[]; writes: Write[] }> {
  if (await read(api.store, records.billNumbers, series)) return { guards: [], writes: [] };
  return {
    guards: [{ condition: absent(records.billNumbers, series) }],
    writes: [remove(records.numberSeries, series)],
  };
}

async function deleteLegalEntity(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, legalEntities, async (stored) =>
    removal(api, request, legalEntities, stored, await freeSeries(api, stored.value.number_series)),
  );
}
