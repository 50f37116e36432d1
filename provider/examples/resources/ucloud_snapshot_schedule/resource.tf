resource "ucloud_volume" "data" {
  name = "db-data"
  size = "20GiB"
}

# Each day at 03:00 UTC. The last seven snapshots stay.
resource "ucloud_snapshot_schedule" "nightly" {
  name            = "nightly"
  volume          = ucloud_volume.data.id
  cron            = "0 3 * * *"
  retain          = 7
  snapshot_labels = { made-by = "nightly" }
}
