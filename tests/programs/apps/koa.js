// Koa, by its README.
const Koa = require('koa')
const app = new Koa()

app.use((ctx) => {
  if (ctx.path === '/heavy') {
    let n = 0
    for (let i = 0; i < 5000000; i++) n++
    ctx.body = String(n)
  } else {
    ctx.body = String(process.pid)
  }
})

const server = app.listen(Number(process.env.PORT), () => {
  console.log(`listening on port ${server.address().port}`)
})
