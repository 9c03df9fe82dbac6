class Tail:
    def __init__(self, config):
        self.first = config.start

    def start(self, state):
        self.total = {name: tensor.clone().zero_() for name, tensor in state.items()}
        self.count = 0

    def update(self, state, now):
        if now.fraction >= self.first:
            for name, total in self.total.items():
                total.add_(state[name])
            self.count += 1

    def result(self):
        return {name: total / self.count for name, total in self.total.items()} if self.count else None

    def state_dict(self):
        return {"total": self.total, "count": self.count}

    def load_state_dict(self, state):
        self.total, self.count = state["total"], state["count"]
