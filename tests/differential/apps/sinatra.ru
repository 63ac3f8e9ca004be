# Sinatra before a tree, ROOT in the environment: its static files, and the echo as a route.
require 'sinatra/base'

class Files < Sinatra::Base
  set :environment, :production
  set :public_folder, ENV['ROOT']
  set :static, true
  enable :method_override
  disable :protection

  %w[get post put options].each do |method|
    send(method, %r{/(public|private)/echo}) do
      fields = request.env.select { |name, _| name.start_with?('HTTP_') }
      fields.map { |name, value| "#{name[5..].tr('_', '-')}: #{value}\n" }.join
    end
  end
end
run Files
