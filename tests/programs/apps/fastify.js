// Fastify, by its README.
const fastify = require('fastify')({ logger: false })

fastify.get('/', (request, reply) => {
  reply.send(String(process.pid))
})

fastify.get('/heavy', (request, reply) => {
  let n = 0
  for (let i = 0; i < 5000000; i++) n++
  reply.send(String(n))
})

fastify.listen({ port: Number(process.env.PORT) }, (err, address) => {
  if (err) throw err
  console.log(`listening on port ${fastify.server.address().port}`)
})
