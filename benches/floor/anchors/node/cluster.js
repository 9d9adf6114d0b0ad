'use strict'
// usage: node cluster.js PORT WORKERS rr|none [STATIC_DIR]: app.js under Node's own cluster; a worker that dies is replaced.
const cluster = require('cluster')

const [port, workers, policy, dir] = process.argv.slice(2)
if (cluster.isPrimary) {
  cluster.schedulingPolicy = policy === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR
  for (let i = 0; i < Number(workers); i++) cluster.fork()
  cluster.on('exit', () => cluster.fork())
} else {
  process.argv.splice(2, Infinity, port, dir)
  require('./app.js')
}
