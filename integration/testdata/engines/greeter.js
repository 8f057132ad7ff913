exports.greet = (name) => `good evening, ${name}, from ${__dirname}`
