/** Images in the `ucloud` command: families, deprecation. */
import { join } from 'node:path';
import t from 'tap';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { createVmPrerequisites, startTestApi } from '../support/api.ts';
import { runUcloud } from '../support/cli.ts';
import { temporaryDirectory } from '../support/stores.ts';

t.test('images', async (t) => {
  const api = await startTestApi(t);
  const { operator, project } = api;
  await createVmPrerequisites(api, project);
  const environment = {
    UCLOUD_CREDENTIALS: join(temporaryDirectory(t), 'none.json'),
    UCLOUD_ENDPOINT: api.url,
    UCLOUD_TOKEN: api.operatorToken,
    UCLOUD_PROJECT: project,
  };
  const ucloud = (line: string) => runUcloud(line.split(' '), environment);
  const json = async (line: string) => {
    const { code, out, err } = await ucloud(`${line} --json`);
    t.equal(code, 0, `${line}\n${err}`);
    return { ...JSON.parse(out), err };
  };
  const image = async (options: string) => {
    const made = await json(`image create --source file:a.raw ${options}`);
    const report = put(records.imageReports, made.id, { phase: 'available', size: 2 ** 20, at: 'now' });
    await api.store.commit({ write: [report] });
    await operator.get('images', made.id, `?after=${made.revision}&timeout=10`);
    return made;
  };
  const old = await image('--name v1 --family debian');
  const fresh = await image('--name v2 --family fedora');

  await t.test('--image family/<name> is the newest image of the family', async (t) => {
    const vm = await json('vm create --name a --image family/debian --interfaces shared');
    t.match(vm, { image: old.id, err: '' });
    t.match(await json('image newest debian'), { id: old.id }, 'for the project of the credentials, too');
    const missing = await ucloud('vm create --name b --image family/suse --interfaces shared');
    t.match(missing, { code: 1, out: '', err: /the family suse has no image here that is available/ });
    for (const bad of ['../images', 'a/b', '%2e%2e', 'x?project=y']) {
      const answer = await ucloud(`vm create --name b --image family/${bad} --interfaces shared`);
      t.match(answer, { code: 1, err: /must be 1 to 63 lower-case letters/ }, bad);
    }
    t.match((await ucloud('image list --family debian')).out, /^NAME .* FAMILY\nv1 .*debian\n$/);
  });

  await t.test('a deprecated image gives a warning on standard error, and the VM', async (t) => {
    await json('image update v1 --deprecated-at 2026-01-01T00:00:00Z --replaced-by v2');
    const vm = await json('vm create --name c --image v1 --interfaces shared');
    t.equal(vm.err, `Warning: the image v1 is deprecated since 2026-01-01T00:00:00Z. Use v2 (${fresh.id}) instead.\n`);
    t.match(await ucloud('image list --family debian'), { out: /DEPRECATED\nv1 .* 2026-01-01T00:00:00Z\n/ });
    await operator.remove('images', fresh.id);
    const again = await json('vm create --name d --image v1 --interfaces shared');
    t.equal(again.err, 'Warning: the image v1 is deprecated since 2026-01-01T00:00:00Z.\n');
    await json('image update v1 --deprecated-at 2999-01-01T00:00:00Z');
    t.equal((await json('vm create --name e --image v1 --interfaces shared')).err, '', 'not before its time');
    t.notOk('deprecated_at' in (await json('image update v1 --deprecated-at null')));
  });

  await t.test('a shared image is marked, and neither a name nor a family selects it', async (t) => {
    const owner = (await operator.create('projects', { name: 'owner' })).id;
    const body = { source: 'file:a.raw', family: 'fresh', project: owner };
    const foreign = await operator.create('images', { ...body, name: 'squatted', shared_with: [project] });
    await api.store.commit({
      write: [put(records.imageReports, foreign.id, { phase: 'available', size: 2 ** 20, at: 'now' })],
    });
    const member = await api.member(project);
    // A token in the environment comes without a project in the credentials.
    const own = { ...environment, UCLOUD_TOKEN: member.token, UCLOUD_PROJECT: undefined };
    const mine = (line: string, more = {}) => runUcloud(line.split(' '), { ...own, ...more });
    t.match((await mine('image list --family fresh')).out, /squatted .* shared .* fresh\n/);
    for (const more of [{}, { UCLOUD_PROJECT: project }]) {
      const named = await mine('vm create --name s --image squatted --interfaces shared', more);
      t.match(named, { code: 1, out: '', err: /there is no image with the id or name "squatted"/ });
      const family = await mine('vm create --name s --image family/fresh --interfaces shared', more);
      t.match(family, { code: 1, out: '', err: /the family fresh has no image here/ });
    }
    t.match(await mine(`vm create --name s --image ${foreign.id} --interfaces shared`), { code: 0 });
    t.match(await mine(`image newest fresh --owner ${owner}`), { code: 0, out: /squatted/ });
    const taken = await mine(`image update v1 --shared-with owner`);
    t.match(taken, { code: 1, err: /there is no project with the id or name "owner"/ }, 'a member knows ids only');
    t.match(await ucloud('image update v1 --shared-with owner'), { code: 0 }, 'an operator knows the names');
    t.match(await operator.get('images', old.id), { shared_with: [owner] });
  });
});
