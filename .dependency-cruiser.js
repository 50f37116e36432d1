/**
 * Which folder may import which (docs/architecture.md), and that no imports form a cycle. Imports of types count for the
 * direction, and not for cycles: they vanish when the program runs.
 */
const components = ['scheduler', 'host', 'metadata', 'scanner', 'filescanner', 'guest', 'billing'];

/** Forbids a folder all imports of our code but those of itself and of the folders that it may use. */
const mayImport = (folder, ...allowed) => ({
  name: `imports-of-${folder.replaceAll('/', '-')}`,
  severity: 'error',
  from: { path: `^${folder}/` },
  to: {
    path: '^(backend|provider|cdk-examples|test|bench|scripts)/',
    pathNot: [folder, ...allowed].map((path) => `^${path}/`),
  },
});

/** Forbids imports from a lower room of a component to a higher one. */
const rooms = (parent, ...order) =>
  order.slice(0, -1).map((room, index) => ({
    name: `rooms-of-${parent.replaceAll('/', '-')}-${room}`,
    severity: 'error',
    from: { path: `^${parent}/${room}(/|\\.ts$)` },
    to: {
      path: order.slice(index + 1).map((above) => `^${parent}/${above}(/|\\.ts$)`),
      dependencyTypesNot: ['type-only'],
    },
  }));

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      // A user waits for the start of each command. The code of the daemons comes with import() when a daemon starts.
      name: 'commands-start-fast',
      severity: 'error',
      from: { path: '^backend/cli/', pathNot: '^backend/cli/(daemons|format-guard|log)\\.ts$' },
      to: {
        path: [
          '^backend/(api|billing|host|metadata|scanner|filescanner|scheduler|store|model/records)/',
          '^backend/cli/(daemons|format-guard|log)\\.ts$',
        ],
        pathNot: ['^backend/store/private-files\\.ts$', '^backend/api/terraform-state/keys\\.ts$'],
        dynamic: false,
        dependencyTypesNot: ['type-only', 'type-import'],
      },
    },
    mayImport('backend/contract'),
    mayImport('backend/model', 'backend/contract'),
    mayImport('backend/store', 'backend/contract'),
    ...components.map((name) => mayImport(`backend/${name}`, 'backend/contract', 'backend/model', 'backend/store')),
    mayImport(
      'backend/api',
      ...['backend/contract', 'backend/model', 'backend/store', 'backend/billing/documents', 'backend/billing/ledger'],
    ),
    mayImport('backend/cli', 'backend'),
    mayImport('backend/lab', 'backend'),
    mayImport('provider/protocol'),
    mayImport('provider/framework', 'provider/protocol'),
    mayImport('provider', 'provider'),
    mayImport('cdk-examples', 'provider/constructs'),
    ...rooms(
      'backend/api',
      'concurrency',
      'read-model',
      'requests',
      'billing',
      'terraform-state',
      'tokens',
      'transaction',
      'uploads',
      'resources',
      'jobs',
      'http',
      'provider-registry',
      'app',
      'start',
    ),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: ['node_modules', '/dist/', 'cdktf\\.out', '\\.gen/'] },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.js', '.json'] },
  },
};
