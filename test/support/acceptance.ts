/**
 * The acceptance suite of the Terraform provider, as data: the resources, the steps of each, and the features of Terraform's
 * language. test/terraform/resources.test.ts and language.test.ts run the suite, and check that they have run all of it.
 * docs/reference/acceptance.md is generated from it.
 */
import { testPublicKey as key, otherPublicKey as otherKey } from './ssh-keys.ts';
export interface AcceptanceCase {
  /** The body of the block. */
  readonly create: string;
  /** The body with a change of every field that can change in place. */
  readonly update: string;
  /** The body with a change of every field that cannot change in place; undefined if there is none. */
  readonly replace?: string;
  /** The attributes whose spelling in the configuration differs from that of the API. */
  readonly spelled?: readonly string[];
  /** The optional attributes that `kind` requires, so they cannot be taken out. */
  readonly bound?: readonly string[];
  /** True for a resource without names. */
  readonly unnamed?: boolean;
  /** Fields whose change replaces the object if it refers to an object that is replaced as well. */
  readonly replacedWith?: readonly string[];
  /** Additional documentation of the fields. */
  readonly note?: string;
  /** Bodies for resources whose creation takes time. */
  readonly slow?: {
    /** A body whose creation fails with an error in Terraform. */
    readonly fails: string;
    readonly error: RegExp;
    /** A body whose creation waits until it is interrupted, and the body with which the same object can continue. */
    readonly waits: string;
    readonly goesOn: string;
  };
}

/** The cases, in the order of their dependencies. Each may refer to `this` of the cases before it. */
export const acceptanceCases: Readonly<Record<string, AcceptanceCase>> = {
  legal_entity: {
    create: `name = "swiss"
      legal_name = "Example AG"
      address = { street = "Weg 1", postcode = "8750", city = "Glarus", country = "CH" }
      email = "billing@example.com"
      number_series = "S-"`,
    update: `name = "swiss-2"
      legal_name = "Example Cloud AG"
      address = { street = "Weg 2", postcode = "8750", city = "Glarus", country = "CH" }
      email = "accounts@example.com"
      vat_number = "CHE-107.787.577 MWST"
      number_series = "S2-"
      phone = "+41 55 505 62 65"
      iban = "CH93 0076 2011 6238 5295 7"
      bic = "POFICHBEXXX"
      registration = "CH-170.3.000.000-1"
      oss = true
      prepaid_grace_days = 30
      dunning_levels = [{ days_after_due = 10, title = "Reminder", text = "Please pay.", fee = "5" }]
      labels = { tier = "x" }
      delete_protection = true`,
  },
  billing_account: {
    create: `name = "acme"
      currency = "CHF"
      legal_entity = ucloud_legal_entity.this.id
      legal_name = "ACME AG"
      address = { street = "Weg 3", postcode = "8005", city = "Zürich", country = "CH" }
      email = "a@acme.example"`,
    update: `name = "acme-2"
      currency = "CHF"
      legal_entity = ucloud_legal_entity.this.id
      legal_name = "ACME Holding AG"
      address = { street = "Weg 4", postcode = "8005", city = "Zürich", country = "CH" }
      email = "b@acme.example"
      reference = "4711"
      vat_number = "CHE-107.787.577 MWST"
      customer_kind = "consumer"
      vat_decision = { category = "O", reason = "The place of supply is abroad." }
      payment = "prepaid"
      payment_days = 10
      labels = { tier = "x" }
      delete_protection = true`,
  },
  product: {
    create: 'name = "hour"\n meter = "booked"',
    update:
      'name = "hour-2"\n meter = "booked"\n description = "Hour of work"\n labels = { tier = "x" }\n delete_protection = true',
  },
  price: {
    create: `product = ucloud_product.this.id
      currency = "CHF"
      amount = "0.5"
      per = "month"
      valid_from = "2099-01-01T00:00:00Z"`,
    update: `product = ucloud_product.this.id
      currency = "CHF"
      amount = "0.5"
      per = "month"
      valid_from = "2099-01-01T01:00:00+01:00"
      labels = { list = "2099" }`,
    replace: `product = data.ucloud_product.spare.id
      currency = "EUR"
      amount = "0.25"
      per = "hour"
      valid_from = "2098-01-01T00:00:00Z"
      minimum_seconds = 3600
      monthly_cap = "100"`,
    spelled: ['valid_from'],
    unnamed: true,
  },
  project: {
    create: 'name = "side"\n quota = { vms = 10, memory = "2048MiB" }',
    update: `name = "side-2"
      description = "another"
      labels = { tier = "x" }
      delete_protection = true
      quota = { vms = 20, disk = "1024GiB" }
      billing_account = ucloud_billing_account.this.id`,
    spelled: ['quota'],
  },
  budget: {
    create: 'project = ucloud_project.this.id\n max_monthly_cost = "100"',
    update:
      'project = ucloud_project.this.id\n max_monthly_cost = "200.50"\n labels = { tier = "x" }\n delete_protection = true',
    replace: 'billing_account = ucloud_billing_account.this.id\n max_monthly_cost = "300"',
    unnamed: true,
  },
  order: {
    create: 'product = ucloud_product.this.id\n quantity = 2',
    update: 'product = ucloud_product.this.id\n quantity = 2\n description = "more"\n labels = { ticket = "1" }',
    replace: 'product = data.ucloud_product.spare.id\n quantity = 3\n project = ucloud_project.this.id',
    unnamed: true,
  },
  token: {
    create: 'name = "ci"\n role = "viewer"\n expires_at = "2099-01-01T00:00:00Z"',
    update: 'name = "ci-main"\n role = "viewer"\n expires_at = "2099-01-01T01:00:00+01:00"\n labels = { stage = "ci" }',
    replace:
      'name = "ci-main"\n role = "billing"\n expires_at = "2098-01-01T00:00:00Z"\n billing_account = ucloud_billing_account.this.id',
    spelled: ['expires_at'],
  },
  prefix_pool: {
    create: 'name = "spare"\n cidr = "2001:DB8:F000::/36"',
    update:
      'name = "spare-2"\n cidr = "2001:db8:f000:0::/36"\n default_length = 60\n min_length = 44\n description = "more"\n labels = { site = "a" }\n delete_protection = true',
    replace: 'name = "spare-2"\n cidr = "2001:db8:e000::/36"',
    spelled: ['cidr'],
  },
  ssh_key: {
    create: `name = "alice"\n public_key = "${key} alice"`,
    update: `name = "alice-2"\n public_key = "${otherKey} alice"\n labels = { team = "web" }`,
    replace: `name = "alice-2"\n public_key = "${otherKey} alice"\n project = ucloud_project.this.id`,
  },
  image: {
    create: 'name = "own"\n source = "file:own.raw"',
    update: `name = "own-2"
      source = "file:own.raw"
      description = "ours"
      labels = { os = "none" }
      visibility = "public"
      shared_with = [ucloud_project.this.id]
      family = "own"
      deprecated_at = "2030-01-01T01:00:00+01:00"
      replaced_by = data.ucloud_image.demo.id
      network_config = "v2"
      delete_protection = true`,
    replace: `name = "own-2"
      snapshot = data.ucloud_snapshot.spare.id
      snapshot_disk = "root"
      volume = data.ucloud_volume.spare.id
      sha256 = sha256(ucloud_token.this.id)
      sha512 = "${'0'.repeat(128)}"
      architecture = "aarch64"
      firmware = "uefi"
      project = ucloud_project.this.id`,
    spelled: ['deprecated_at'],
    slow: {
      fails: 'name = "broken"\n source = "file:nowhere.raw"',
      error: /^Image "broken" is not available/,
      waits: 'name = "late"\n source = "file:own.raw"',
      goesOn: 'name = "late"\n source = "file:own.raw"',
    },
  },
  prefix: {
    create: 'name = "site"\n length = 60',
    update: 'name = "site-a"\n length = 60\n labels = { site = "a" }\n delete_protection = true',
    replace: `name = "site-a"
      cidr = "2001:db8:f000::/61"
      length = 61
      pool = ucloud_prefix_pool.this.id
      project = ucloud_project.this.id`,
  },
  security_group: {
    create: `name = "web"
      rules = [{ direction = "ingress", protocol = "tcp", ports = ["80"], prefixes = ["2001:DB8::/32"] }]`,
    update: `name = "web-2"
      description = "front"
      labels = { tier = "web" }
      default_egress = "deny"
      rules = [
        { direction = "ingress", protocol = "icmpv6", icmp_types = [128], prefixes = ["::/0"], description = "echo" },
        { direction = "ingress", protocol = "any", self = true },
        { direction = "egress", protocol = "udp", vm_selector = "tier=dns" },
      ]
      vm_selector = "tier=web"
      delete_protection = true`,
    replace: 'name = "web-2"\n project = ucloud_project.this.id',
    spelled: ['rules'],
  },
  network: {
    create: 'name = "web"\n prefix = ucloud_prefix.this.id\n dns_servers = ["2001:DB8:0:0::53"]',
    update: `name = "web-2"
      prefix = ucloud_prefix.this.id
      dns_servers = ["2001:db8::54", "2001:db8::53"]
      default_security_groups = [ucloud_security_group.this.id]
      labels = { tier = "web" }
      delete_protection = true`,
    replace: `name = "web-2"
      prefix = ucloud_prefix.this.id
      cidr = "2001:db8:f000::/64"
      kind = "routed"
      mtu = 1400
      project = ucloud_project.this.id`,
    spelled: ['dns_servers'],
  },
  storage_pool: {
    create: `name = "fast"
      kind = "ceph"
      monitors = ["[2001:db8::1]:3300"]
      user = "ucloud"
      key_file = "/etc/ucloud/ceph.key"
      rbd_pool = "vms"`,
    update: `name = "fast-2"
      kind = "ceph"
      monitors = ["[2001:db8::1]:3300", "[2001:db8::2]:3300"]
      user = "cloud"
      key_file = "/etc/ucloud/other.key"
      rbd_pool = "vms"
      description = "on flash"
      labels = { tier = "fast" }
      overcommit = 1.5
      delete_protection = true`,
    replace: 'name = "fast-2"\n kind = "local"\n path = "/srv/fast"',
    bound: ['monitors', 'user', 'key_file'],
  },
  bgp_peer: {
    create: `name = "spine"
      address = "2001:DB8:0:0::1"
      asn = 4200000000
      local_asn = 4200000001
      password_file = "/etc/ucloud/bgp-password"
      host_selector = "rack=r1"`,
    update: `name = "spine-2"
      address = "fe80::a%eth0"
      asn = 4200000002
      local_asn = 4200000003
      password_file = "/etc/ucloud/other-password"
      host_selector = "rack in (r1, r2)"
      description = "of rack 2"
      labels = { tier = "spine" }`,
    spelled: ['address', 'host_selector'],
  },
  volume: {
    create: `name = "data"
      size = "1024MiB"
      snapshot = data.ucloud_snapshot.spare.id
      snapshot_disk = "root"`,
    update: `name = "data-2"
      size = "2048MiB"
      snapshot = data.ucloud_snapshot.spare.id
      snapshot_disk = "root"
      description = "of the database"
      labels = { tier = "db" }
      max_iops = 500
      max_throughput = 20
      force_detach = true
      delete_protection = true`,
    replace: `name = "data-2"
      size = "1GiB"
      project = ucloud_project.this.id
      pool = ucloud_storage_pool.this.id
      image = ucloud_image.this.id
      source_volume = data.ucloud_volume.spare.id`,
    spelled: ['size'],
  },
  vm: {
    create: `name = "web-1"
      image = ucloud_image.this.id
      interfaces = [{ network = ucloud_network.this.id }]
      memory = "1024MiB"
      user_data = "#!/bin/sh"
      timeouts = { create = "1m" }`,
    update: `name = "web-2"
      image = ucloud_image.this.id
      interfaces = [{ network = ucloud_network.this.id, secondary_addresses = [cidrhost(ucloud_network.this.cidr, 128)], security_groups = [ucloud_security_group.this.id] }]
      memory = "2048MiB"
      cpus = 2
      disk_size = "8GiB"
      ssh_keys = [ucloud_ssh_key.this.id]
      user_data = "#!/bin/sh -x"
      user_data_change = "restart"
      volumes = [data.ucloud_volume.spare.id]
      description = "front"
      labels = { tier = "web" }
      power_state = "stopped"
      delete_protection = true`,
    replace: `name = "web-2"
      root_volume = data.ucloud_volume.spare.id
      interfaces = [{ network = ucloud_network.this.id }]
      user_data = "#!/bin/sh -x"
      anti_affinity = { group = "web" }
      host_selector = "!gpu"
      project = ucloud_project.this.id`,
    spelled: ['memory'],
    replacedWith: ['interfaces'],
    note: '`user_data` changes in place with `user_data_change = "restart"`; otherwise a change of it replaces the VM',
    slow: {
      fails: `name = "giant"
        image = data.ucloud_image.demo.id
        interfaces = [{ network = ucloud_network.this.id }]
        memory = "512TiB"
        timeouts = { create = "1s" }`,
      error: /^VM "giant" is not running within 1 s/,
      waits: `name = "late"
        image = data.ucloud_image.demo.id
        interfaces = [{ network = ucloud_network.this.id }]
        memory = "512TiB"`,
      goesOn: `name = "late"
        image = data.ucloud_image.demo.id
        interfaces = [{ network = ucloud_network.this.id }]
        memory = "1GiB"`,
    },
  },
  volume_attachment: {
    create: 'vm = ucloud_vm.this.id\n volume = ucloud_volume.this.id\n stop_vm_before_detaching = true',
    update: `vm = ucloud_vm.this.id
      volume = ucloud_volume.this.id
      stop_vm_before_detaching = true
      labels = { use = "db" }`,
    replace: 'vm = ucloud_vm.this.id\n volume = ucloud_volume.this.id\n stop_vm_before_detaching = true',
    unnamed: true,
  },
  prefix_route: {
    create: 'name = "containers"\n prefix = ucloud_prefix.this.id\n length = 62\n vm = data.ucloud_vm.spare.id',
    update: `name = "containers-2"
      prefix = ucloud_prefix.this.id
      length = 62
      vm = ucloud_vm.this.id
      network = ucloud_network.this.id
      labels = { use = "containers" }
      delete_protection = true`,
    replace: `name = "containers-2"
      prefix = ucloud_prefix.this.id
      cidr = "2001:db8:f000:2::/63"
      length = 63
      vm = ucloud_vm.this.id
      network = ucloud_network.this.id`,
  },
  snapshot: {
    create: 'name = "monday"\n vm = ucloud_vm.this.id',
    update: `name = "monday-2"
      vm = ucloud_vm.this.id
      description = "before the update"
      labels = { keep = "long" }
      delete_protection = true`,
    replace: 'name = "monday-2"\n volume = ucloud_volume.this.id\n consistency = "filesystem"',
  },
  snapshot_schedule: {
    create: 'name = "nightly"\n vm = ucloud_vm.this.id\n cron = "0 3 * * *"\n retain = 7',
    update: `name = "nightly-2"
      vm = ucloud_vm.this.id
      cron = "0 4 * * *"
      retain = 14
      consistency = "filesystem"
      snapshot_labels = { made-by = "nightly" }
      description = "before work begins"
      labels = { keep = "long" }
      delete_protection = true`,
    replace: 'name = "nightly-2"\n volume = ucloud_volume.this.id\n cron = "0 4 * * *"\n retain = 14',
  },
};

/** The values after the update, without arguments that only control the update. */
export const settledBody = ({ update }: AcceptanceCase): string =>
  update
    .replace('delete_protection = true', 'delete_protection = false')
    .replace(/\n *(user_data_change|stop_vm_before_detaching) = .*/, '');

/** The attributes that stay when the update removes all others. */
export const bareBody = ({ update }: AcceptanceCase, kept: ReadonlySet<string>): string =>
  update
    .split('\n')
    .filter((line) => kept.has(line.trim().split(' ')[0] ?? ''))
    .join('\n');

export const acceptanceSteps = {
  create: {
    short: 'created',
    says: 'created as configured, and waited for until it can be used',
  },
  createdPlan: { short: 'empty plan', says: 'created, it leaves nothing to plan' },
  update: { short: 'updated', says: 'every field that can change, changes in place' },
  updatedPlan: { short: 'empty plan', says: 'updated, it leaves nothing to plan' },
  takenOut: {
    short: 'taken out',
    says: 'what is taken out of the configuration has its default again, stays if the server chooses it, or is removed',
  },
  takenOutPlan: { short: 'empty plan', says: 'with things taken out, it leaves nothing to plan' },
  replace: { short: 'replacement', says: 'every other field plans a replacement' },
  importById: { short: 'import by id', says: 'imported by id, it is as it was in the state' },
  importByName: { short: 'import by name', says: 'imported by name, it is as it was in the state' },
  generated: {
    short: 'generated configuration',
    says: 'imported with generated configuration, it leaves nothing to plan',
  },
  deletedOutside: { short: 'deleted outside', says: 'deleted outside is recreated' },
  tainted: {
    short: 'half-way',
    says: 'a create that fails half-way is tainted with its id in the state, and replaced',
  },
  interrupted: { short: 'Ctrl-C', says: 'after Ctrl-C in a create the next apply goes on with the same object' },
  destroy: { short: 'destroyed', says: 'destroyed, the API knows it no more' },
} as const;
export type AcceptanceStep = keyof typeof acceptanceSteps;

/** Returns why a resource skips a step; undefined if it does not. */
export function notApplicable(step: AcceptanceStep, { replace, slow, unnamed }: AcceptanceCase): string | undefined {
  if (step === 'importByName' && unnamed) return 'the resource has no names';
  if (step === 'replace' && replace === undefined) return 'every field can change in place';
  if ((step === 'tainted' || step === 'interrupted') && slow === undefined)
    return 'creation is one transaction: it is there whole or not at all';
  return undefined;
}

/** The features of Terraform's language. Each is a test of test/terraform/language.test.ts. */
export const languageFeatures = {
  count: '`count`, `for_each` and `moved`: touch only what was added or taken away, and moving touches nothing',
  lifecycle: '`replace_triggered_by`, `ignore_changes` and `create_before_destroy`',
  test: '`terraform test` with a `.tftest.hcl` makes VMs, checks them, and leaves none',
  aliases: 'two projects by provider aliases, one through a module with a requirement of its own',
} as const;
export type LanguageFeature = keyof typeof languageFeatures;
